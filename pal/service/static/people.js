"use strict";
const field = document.getElementById("person");
let setup;

function pairCard(each, verb, notes) {
  return element("div", { className: "pair" },
    each.prompt === null ? null : element("p", { className: "over" }, show(each.prompt)),
    element("p", {}, element("strong", { textContent: `${verb} ` }), show(each.first)),
    element("p", { className: "over" }, "over ", show(each.second)),
    element("p", { className: "note", textContent: notes }));
}

const quoted = (item) => (item.image ? [show(item)] : ["“", show(item), "”"]);

function drawMap(person) {
  const svg = document.getElementById("map");
  const axis = (place) => [Math.min(...person.others.map((o) => o[place] ?? 0), person.place[place] ?? 0), Math.max(...person.others.map((o) => o[place] ?? 0), person.place[place] ?? 0)];
  const [x, y] = [axis(0), axis(1)];
  const at = (value, [low, high], from, to) => from + (to - from) * (high > low ? (value - low) / (high - low) : 0.5);
  const made = (tag, attributes, text) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text) node.textContent = text;
    return node;
  };
  const dot = (place, chosen) => made("circle", { cx: at(place[0], x, 16, 304), cy: at(place[1] ?? 0, y, 206, 26), r: chosen ? 7 : 4, class: chosen ? "chosen" : "" });
  const chosen = dot(person.place, true);
  const side = chosen.getAttribute("cx") > 200;
  svg.replaceChildren(...person.others.map((other) => dot(other, false)), chosen,
    made("text", { x: Number(chosen.getAttribute("cx")) + (side ? -11 : 11), y: Number(chosen.getAttribute("cy")) + 4, "text-anchor": side ? "end" : "start", class: "chosen" }, person.user_id));
  svg.setAttribute("aria-label", `${person.user_id} among ${person.others.length} people on the two leading axes of taste`);
  const towards = (place, where) => (setup.names[place] ? [` ${where}: more `, ...quoted(setup.names[place][0]), ", less ", ...quoted(setup.names[place][1]), "."] : []);
  document.getElementById("map-text").replaceChildren("Each dot is a person.", ...towards(0, "To the right"), ...towards(1, "Up"));
}

const choose = (id) => trying(async () => {
  const person = await call("GET", `/demo/people/${encodeURIComponent(id)}`);
  field.value = id;
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  document.getElementById("shown").hidden = false;
  drawMap(person);
  document.getElementById("alike").replaceChildren(...person.alike.map((each) => {
    const button = element("button", { type: "button", className: "quiet", textContent: each.user_id });
    button.addEventListener("click", () => choose(each.user_id));
    return element("li", {}, button, ` would choose the same in ${percent(each.agreement)} of the questions`);
  }));
  document.getElementById("beyond").replaceChildren(...person.beyond.map((each) =>
    pairCard(each, "prefers", `The model is ${percent(each.theirs)} sure of it; for the average person it would be ${percent(each.average)}.`)));
  if (!person.beyond.length) document.getElementById("beyond").textContent = "Nothing: the model takes them for the average person.";
  document.getElementById("right").textContent = person.answers
    ? `The model agrees with ${percent(person.right)} of their ${person.answers} answers at hand; it was fitted to them, so expect less on new ones.`
    : "None of this person's answers are at hand.";
  document.getElementById("mistakes").replaceChildren(...person.mistakes.map((each) =>
    pairCard(each, "chose", `The model gave this choice ${percent(each.chance)}.`)));
});

document.getElementById("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  choose(field.value);
});
trying(async () => {
  setup = await call("GET", "/demo/setup");
  document.getElementById("ids").append(...setup.people.map((each) => element("option", { value: each.name })));
  await choose(decodeURIComponent(location.hash.slice(1)) || setup.people[0].name);
});
