"""Ranks: which part of the work is whose, where several processes encode into one store.

Each takes a share that is a fixed function of the full list of groups, and none waits for another: a rank
that never comes leaves its share to whoever runs the stage next.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import PipelineError

# Who starts ranks, and the variables in which it tells a process its number and how many there are.
LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "SLURM": ("SLURM_PROCID", "SLURM_NTASKS")}
ON_THIS_MACHINE = ("LOCAL_RANK", "SLURM_LOCALID")


@dataclass(frozen=True)
class Share:
    """One process's part of the work.

    Args:
        rank: Its number, from 0.
        world: How many there are; 1 for a process that does all.
        told_by: Where both come from, in words.
    """

    rank: int = 0
    world: int = 1
    told_by: str = "--rank and --world"

    def strided(self, count: int) -> range:
        """Every world-th of so many groups: where costs rise along them, each rank has some of all."""
        return range(self.rank, count, self.world)

    def block(self, count: int) -> range:
        """A run of neighbours out of so many groups: each rank reads files of its own."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)


def share(rank: int | None, world: int | None, environ: Mapping[str, str] = os.environ) -> Share:
    """What this process is to do: as its flags say, else as torchrun or SLURM do, else everything.

    A stage that DVC runs does everything whatever a launcher says, since DVC expects its output.

    Args:
        rank: The flag --rank.
        world: The flag --world; 1 does everything, also under a launcher.
        environ: The environment.

    Raises:
        PipelineError: If one is given without the other, or they contradict each other.
    """
    if rank is not None or world is not None:
        return _checked(0 if rank is None and world == 1 else rank, world, "--rank and --world")
    if "DVC_STAGE" in environ:
        return Share()
    for launcher, (number, count) in LAUNCHERS.items():
        if number in environ and count in environ:
            told_by = f"{number} and {count} of {launcher}"
            return _checked(_whole(number, environ), _whole(count, environ), told_by)
    return Share()


def use_own_gpu(environ: Mapping[str, str] = os.environ) -> None:
    """Compute on the GPU of this process's number on its machine, where the machine has several."""
    local = next((environ[name] for name in ON_THIS_MACHINE if environ.get(name, "").isdigit()), None)
    if local is None:
        return
    import torch

    torch.cuda.set_device(int(local) % torch.cuda.device_count())


def _whole(name: str, environ: Mapping[str, str]) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise PipelineError(
            f"{name} in the environment must be a whole number, got {environ[name]!r}; "
            "unset it, or give --rank and --world"
        ) from None


def _checked(rank: int | None, world: int | None, told_by: str) -> Share:
    if rank is None or world is None or world < 1 or not 0 <= rank < world:
        raise PipelineError(
            f"{told_by} must be given together, with rank from 0 to world - 1, got rank {rank} of world "
            f"{world}; --world 1 alone does everything"
        )
    return Share(rank, world, told_by)
