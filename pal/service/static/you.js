"use strict";
const me = localStorage.getItem("visitor") ?? `visitor ${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;
localStorage.setItem("visitor", me);
const person = `/v1/people/${encodeURIComponent(me)}`;
let setup, now, busy = false;

async function update(choice) {
  if (busy || (choice && !now?.question)) return;
  busy = true;
  const body = { user_id: me };
  if (choice) Object.assign(body, { number: now.question.number, choice, key: `${me} ${now.question.number} ${now.last}` });
  await trying(async () => {
    const before = now;
    now = await call("POST", "/demo/you", body);
    render(before);
  });
  busy = false;
  const outlook = await trying(() => call("POST", "/demo/outlook", { user_id: me }));
  if (outlook) {
    document.getElementById("outlook").textContent =
      `Ten more answers would bring it to about ${percent(outlook.later)}; if it knew you fully, ${percent(outlook.at_most)}.`;
  }
}

function render(before) {
  showQuestion(now.question);
  document.getElementById("back").disabled = !now.answers;
  reorder(document.getElementById("ranking"), now.ranking.map((each) =>
    rankingRow(each.index, setup.ranked.responses[each.index], `First in your ranking with a chance of ${percent(each.best)}`)));
  document.getElementById("sure").textContent =
    `After ${count(now.answers)} the model would guess ${percent(now.sure)} of your choices right.`;
  const bars = document.getElementById("belief");
  if (bars.children.length !== now.belief.length) {
    bars.replaceChildren(...setup.names.map((name) => makeBar(name, now.belief[0])));
    document.getElementById("bars").textContent = `Each bar ${now.belief[0].low === 0
      ? "is a kind of taste, with what it prefers most clearly; further right is more of it."
      : "lies between two kinds of response."} The line is where you stand, the box how unsure that still is.`;
  }
  now.belief.forEach((each, place) => moveBar(bars.children[place], each, setup.names[place]));
  if (before) {
    const first = brief(setup.ranked.responses[now.ranking[0].index]);
    document.getElementById("said").textContent = `${count(now.answers)}. First in your ranking: ${first}`;
  }
}

const count = (answers) => `${answers} answer${answers === 1 ? "" : "s"}`;

// A prototype is said by what it likes over what; a direction has two ends.
function makeBar([likes, other], { low }) {
  const ends = element("div", { className: "ends" }, ...(low === 0 ? [element("span", {}, show(likes), " over ", show(other))]
    : [element("span", {}, show(other)), element("span", {}, show(likes))]));
  const track = element("div", { className: "track" }, element("div", { className: "band" }), element("div", { className: "dot" }));
  track.setAttribute("role", "img");
  return element("div", { className: "bar" }, ends, track);
}

function moveBar(bar, each, [likes, other]) {
  const place = (value) => 100 * Math.min(1, Math.max(0, (value - each.low) / (each.high - each.low)));
  const [from, to] = [place(each.mean - each.sd), place(each.mean + each.sd)];
  Object.assign(bar.querySelector(".band").style, { left: `${from}%`, width: `${Math.max(1, to - from)}%` });
  bar.querySelector(".dot").style.left = `${place(each.mean)}%`;
  bar.querySelector(".track").setAttribute("aria-label",
    `${each.low === 0 ? percent(each.mean) : each.mean.toFixed(1)} plus or minus ${each.low === 0 ? percent(each.sd) : each.sd.toFixed(1)} towards ${plain(likes)}, away from ${plain(other)}`);
}

listenToChoices(update);
document.getElementById("back").addEventListener("click", () => trying(async () => {
  await call("DELETE", `${person}/answers/${now.last}`);
  await update();
}));
document.getElementById("export").addEventListener("click", () => trying(async () => {
  const data = now.answers ? await call("GET", `${person}/export`) : { user_id: me, taste: null, answers: [] };
  const link = element("a", { download: "my-taste.json", href: URL.createObjectURL(new Blob([JSON.stringify(data, null, 1)])) });
  link.click();
}));
document.getElementById("delete").addEventListener("click", () => trying(async () => {
  if (now.answers && window.confirm("Delete all of your answers?")) {
    await call("DELETE", person);
    await update();
  }
}));
trying(async () => {
  setup = await call("GET", "/demo/setup");
  const prompt = setup.ranked.prompt;
  document.getElementById("ranked-prompt").prepend(...(prompt === null ? [] : ["Answers to “", show(prompt), "”. "]));
  await update();
});
