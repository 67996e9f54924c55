"use strict";
// The calls of openapi.json, each with a body to change and send.
const bodies = (prompt, first, second) => ({
  "/v1/score": { prompt, responses: [first, second], user_id: null },
  "/v1/rank": { prompt, responses: [first, second], user_id: null },
  "/v1/compare": { prompt, first, second },
  "/v1/ask": { questions: [{ prompt, first, second }], n: 1 },
  "/v1/people/{user_id}/answers": { answers: [{ prompt, chosen: first, rejected: second }] },
  "/v1/openrlhf": { query: ["What now? Just do it."], prompts: ["What now? "] },
});

function card(path, method, about, example) {
  const parameters = (about.parameters ?? []).filter((each) => each.in !== "header");
  const fields = parameters.map((each) => {
    const id = `${method}${path}${each.name}`;
    const input = element("input", { id, name: each.name, value: each.name === "user_id" && each.in === "path" ? "me" : "" });
    return [each, input, element("p", {}, element("label", { htmlFor: id, textContent: `${each.name} ` }), input)];
  });
  const body = about.requestBody ? element("textarea", { rows: 8, className: "code", ariaLabel: `Body of ${path}`,
    value: JSON.stringify(example, null, 1) }) : null;
  const answer = element("pre", { tabIndex: 0, hidden: true, ariaLabel: `Answer of ${path}` });
  const form = element("form", {}, ...fields.map((each) => each[2]), body, element("p", {}, element("button", { textContent: "Send" })), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    let url = path;
    const query = new URLSearchParams();
    for (const [each, input] of fields) {
      if (each.in === "path") url = url.replace(`{${each.name}}`, encodeURIComponent(input.value));
      else if (input.value) query.set(each.name, input.value);
    }
    let shown;
    try {
      shown = await call(method.toUpperCase(), query.size ? `${url}?${query}` : url, body ? JSON.parse(body.value) : undefined);
    } catch (error) {
      shown = { error: error.message };
    }
    answer.hidden = false;
    answer.textContent = typeof shown === "string" ? shown || "(done)" : JSON.stringify(shown, null, 1);
  });
  return element("details", {}, element("summary", {}, element("code", { textContent: `${method.toUpperCase()} ${path}` }), ` ${(about.description ?? "").replaceAll("`", "")}`), form);
}

trying(async () => {
  const schema = await call("GET", "/openapi.json");
  const groups = {};
  let examples = bodies("What now?", "Just do it.", "Let me walk you through it.");
  if (document.querySelector("nav")) { // a demo's own responses, which its model can read
    const { ranked } = await call("GET", "/demo/setup");
    if (JSON.stringify(ranked).length < 30000) examples = bodies(ranked.prompt, ...ranked.responses);
  }
  for (const [path, methods] of Object.entries(schema.paths)) {
    for (const [method, about] of Object.entries(methods)) (groups[about.tags[0]] ??= []).push(card(path, method, about, examples[path]));
  }
  const titles = { rewards: "Rewards", people: "People", models: "Models", service: "The service itself" };
  document.getElementById("calls").append(...Object.entries(groups).flatMap(([tag, cards]) => [element("h2", { textContent: titles[tag] ?? tag }), ...cards]));
  groups.rewards[0].open = true;
});
