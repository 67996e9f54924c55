"use strict";
// The calls of openapi.json, each with a body to change and send.
const BODIES = {
  "/v1/score": { responses: ["Just do it.", "Let me walk you through it."], user_id: null },
  "/v1/rank": { responses: ["Just do it.", "Let me walk you through it."], user_id: null },
  "/v1/compare": { first: "Just do it.", second: "Let me walk you through it." },
  "/v1/ask": { questions: [{ first: "Just do it.", second: "Let me walk you through it." }], n: 1 },
  "/v1/people/{user_id}/answers": { answers: [{ chosen: "Just do it.", rejected: "Let me walk you through it." }] },
  "/v1/openrlhf": { query: ["What now? Just do it."], prompts: ["What now? "] },
};

function card(path, method, about) {
  const parameters = (about.parameters ?? []).filter((each) => each.in !== "header");
  const fields = parameters.map((each) => {
    const id = `${method}${path}${each.name}`;
    const input = element("input", { id, name: each.name, value: each.name === "user_id" && each.in === "path" ? "me" : "" });
    return [each, input, element("p", {}, element("label", { htmlFor: id, textContent: `${each.name} ` }), input)];
  });
  const body = about.requestBody ? element("textarea", { rows: 8, className: "code", ariaLabel: `Body of ${path}`,
    value: JSON.stringify(BODIES[path] ?? {}, null, 1) }) : null;
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
  const cards = Object.entries(schema.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, about]) => card(path, method, about)));
  document.getElementById("calls").append(...cards);
  cards[0].open = true;
});
