"use strict";
let me = sessionStorage.getItem("participant"), now, busy = false;

async function next(choice) {
  if (busy) return;
  busy = true;
  await trying(async () => {
    const body = { user_id: me };
    if (choice) Object.assign(body, { choice, answers: now.answers });
    now = await call("POST", "/study/next", body);
    document.getElementById("start").hidden = true;
    document.getElementById("asking").hidden = !now.question;
    if (now.question) showQuestion(now.question);
    document.getElementById("said").textContent = now.question
      ? `${now.answers}${now.of ? ` of ${now.of}` : ""} answered; each is kept at once, so you may stop at any time.`
      : `Thank you: ${now.answers} answers are kept.`;
  });
  busy = false;
}

document.getElementById("start").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = document.getElementById("name").value.trim();
  me = name || `anonymous ${crypto.randomUUID?.() ?? Math.random().toString(36).slice(2)}`;
  sessionStorage.setItem("participant", me);
  next().then(() => document.getElementById("question-title").focus());
});
listenToChoices(next);
trying(async () => {
  const { consent } = await call("GET", "/study/consent");
  document.getElementById("consent").textContent = consent;
  if (!consent) document.querySelector("#start button").textContent = "Start";
  if (me) await next();
});
