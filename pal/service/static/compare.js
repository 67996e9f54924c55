"use strict";
let setup, asPictures;
document.getElementById("form").addEventListener("submit", (event) => {
  event.preventDefault();
  trying(async () => {
    const responses = await read();
    if (responses.length < 2) throw new Error(asPictures ? "Choose at least two pictures." : "Paste at least two responses, with an empty line between.");
    const person = document.getElementById("person").value.trim();
    const body = { prompt: document.getElementById("prompt").value.trim() || null, responses };
    if (person) body.user_id = person;
    const ranked = await call("POST", "/demo/compare", body);
    document.getElementById("rankings").hidden = false;
    document.getElementById("person-section").hidden = !person;
    document.getElementById("person-name").textContent = person;
    for (const [id, order] of [["average", ranked.average], ["worst", ranked.worst], ["person-ranking", ranked.person ?? []]]) {
      reorder(document.getElementById(id), order.map((index) => rankingRow(index, responses[index])));
    }
    document.getElementById("said").textContent = `Ranked ${responses.length} responses. First by the average: ${brief(responses[ranked.average[0]])}`;
  });
});

// What was pasted, or pictures from files; those of the page where none was chosen.
function read() {
  if (!asPictures) return document.getElementById("responses").value.split(/\n\s*\n/).map((each) => each.trim()).filter(Boolean).map(parse);
  const files = [...document.getElementById("pictures").files];
  if (!files.length) return setup.ranked.responses;
  return Promise.all(files.map((file) => new Promise((done, failed) => {
    const reader = Object.assign(new FileReader(), { onload: () => done({ image: reader.result.split(",")[1] ?? "" }), onerror: () => failed(reader.error) });
    reader.readAsDataURL(file);
  })));
}

// A model of vectors reads lists of numbers.
function parse(text) {
  if (!/^\[[\s\d.,eE+-]+\]$/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

trying(async () => {
  setup = await call("GET", "/demo/setup");
  document.getElementById("ids").append(...setup.people.map((each) => element("option", { value: each.name })));
  document.getElementById("prompt-field").hidden = !setup.needs_prompts;
  asPictures = setup.ranked.responses.some((each) => each.image);
  document.getElementById("pictures-field").hidden = !asPictures;
  const text = document.getElementById("responses");
  text.parentElement.hidden = asPictures;
  text.required = !asPictures;
  if (typeof setup.ranked.prompt === "string") document.getElementById("prompt").value = setup.ranked.prompt;
  text.value = asPictures ? "" : setup.ranked.responses.map((each) => (Array.isArray(each) ? JSON.stringify(each) : each)).join("\n\n");
});
