"""Drawn scenes: each says what it shows, is the same whenever it is drawn, and a defect can be seen."""

import numpy as np
import pytest

from pipeline.datasets.drawn import drawings
from pipeline.datasets.drawn.drawings import Scene


def pixels(*arguments):
    return np.asarray(drawings.draw(*arguments), dtype=float)


def test_a_scene_is_told_in_words():
    assert Scene("red", "house", "cloud", 2).prompt == "a red house under two clouds"
    assert Scene("orange", "tree", "star", 1).prompt == "an orange tree under one star"


def test_no_two_scenes_are_told_alike():
    prompts = [scene.prompt for scene in drawings.scenes()]
    assert len(set(prompts)) == len(prompts) == 8 * 8 * 4 * 4


@pytest.mark.parametrize("defect", [None, *drawings.DEFECTS])
def test_a_drawing_is_the_same_whenever_it_is_drawn(defect):
    scene = Scene("blue", "car", "bird", 3)
    first, again, other = (pixels(scene, seed, defect) for seed in ("a", "a", "b"))
    assert first.shape == (128, 128, 3)
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("thing", drawings.THINGS)
def test_the_thing_has_the_colour_that_was_asked_for(thing):
    """Red against green of the same thing, in the same place: where they differ, red is redder."""
    red, green = (pixels(Scene(colour, thing, "star", 1), "a") for colour in ("red", "green"))
    differs = (red != green).any(2)
    assert differs.mean() > 0.01
    assert (red - green)[differs].mean(0)[0] > 50


@pytest.mark.parametrize("above", drawings.ABOVE)
def test_more_of_what_is_above_changes_the_sky_alone(above):
    one, four = (pixels(Scene("red", "ball", above, count), "a") for count in (1, 4))
    sky = slice(0, 60)
    assert (one[sky] != four[sky]).any(2).mean() > 0.01


def roughness(picture):
    return np.abs(np.diff(picture, axis=1)).mean()


def test_each_defect_does_what_it_says():
    scene = Scene("purple", "house", "balloon", 3)
    neat = pixels(scene, "a")
    spoilt = {defect: pixels(scene, "a", defect) for defect in drawings.DEFECTS}
    assert roughness(spoilt["blurred"]) < roughness(neat) < roughness(spoilt["noisy"])
    assert spoilt["faded"].std() < neat.std()
    assert roughness(spoilt["unfinished"]) < roughness(neat)
    alike = [(np.diff(picture[100:], axis=1) == 0).mean() for picture in (neat, spoilt["blocky"])]
    assert alike[0] + 0.1 < alike[1]
