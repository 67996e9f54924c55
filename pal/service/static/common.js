"use strict";
// What all pages share. Everything from elsewhere is put in as text, never as HTML.

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((each) => each !== null));
  return made;
}

// An item as it is shown: a text, a conversation, a picture or numbers.
function show(item) {
  if (item && item.image) {
    const kind = item.image.startsWith("/9j") ? "jpeg" : item.image.startsWith("UklG") ? "webp" : "png";
    return element("img", { src: `data:image/${kind};base64,${item.image}`, alt: `Picture ${pictureNumber(item.image)}` });
  }
  if (Array.isArray(item) && item.length && typeof item[0] === "number") {
    const some = item.slice(0, 4).map((each) => each.toFixed(2)).join(", ");
    return document.createTextNode(item.length > 4 ? `${some}, … (${item.length} numbers)` : some);
  }
  if (Array.isArray(item)) return document.createTextNode(item.map((each) => `${each.role}: ${each.content}`).join("\n"));
  return document.createTextNode(item ?? "");
}

const pictures = new Map();
function pictureNumber(data) {
  if (!pictures.has(data)) pictures.set(data, pictures.size + 1);
  return pictures.get(data);
}

function plain(item) {
  const shown = show(item);
  return shown.alt ?? shown.textContent;
}

// The beginning of an item, as a sentence quotes it.
function brief(item, most = 80) {
  const text = plain(item);
  return text.length > most ? `${text.slice(0, most - 1).trimEnd()}…` : text;
}

const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

async function call(method, path, body, headers = {}) {
  const key = sessionStorage.getItem("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (answer.status === 401) {
    const given = window.prompt("This service needs its key (PAL_API_KEY):");
    if (given) {
      sessionStorage.setItem("key", given);
      return call(method, path, body, headers);
    }
  }
  const text = await answer.text();
  const read = text && answer.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
  if (!answer.ok) throw new Error(read.error ?? `${answer.status} ${text}`);
  return read;
}

function fail(error) {
  const shown = document.getElementById("error");
  shown.textContent = error ? error.message : "";
  shown.hidden = !error;
}

// Run something that may fail; the error stands on the page.
async function trying(run) {
  try {
    fail(null);
    return await run();
  } catch (error) {
    fail(error);
  }
}

// Rows that glide to their new places.
function reorder(list, rows) {
  const before = new Map([...list.children].map((row) => [row.dataset.index, row.getBoundingClientRect().top]));
  list.replaceChildren(...rows);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const row of rows) {
    const moved = before.has(row.dataset.index) ? before.get(row.dataset.index) - row.getBoundingClientRect().top : 0;
    if (moved) row.animate([{ transform: `translateY(${moved}px)` }, { transform: "none" }], { duration: 250, easing: "ease-out" });
  }
}

function rankingRow(index, item, note) {
  const row = element("li", {}, element("span", { className: "clip", title: plain(item) }, show(item)), note ? element("small", { textContent: note }) : null);
  row.dataset.index = index;
  return row;
}

// The two buttons of a question, and what number keys do.
function listenToChoices(choose) {
  const buttons = [...document.querySelectorAll("[data-choice]")];
  for (const button of buttons) button.addEventListener("click", () => choose(button.dataset.choice));
  document.addEventListener("keydown", (event) => {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
    if (typing || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const choice = { 1: "first", 2: "second", 3: "tie" }[event.key];
    if (choice && document.querySelector(".question").offsetParent) choose(choice);
  });
}

function showQuestion(question) {
  const buttons = [...document.querySelectorAll("[data-choice]")];
  for (const button of buttons) button.disabled = !question;
  document.getElementById("question-title").replaceChildren(
    question ? (question.prompt === null ? "Which of these two?" : show(question.prompt)) : "All questions are answered");
  for (const side of ["first", "second"]) {
    document.querySelector(`[data-choice=${side}] .item`).replaceChildren(question ? show(question[side]) : "");
  }
}
