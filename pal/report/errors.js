"use strict";
function fail(text) {
  const show = () => {
    const box = document.getElementById("errors");
    box.hidden = false;
    box.append(Object.assign(document.createElement("p"), {textContent: text}));
  };
  if (document.body) show(); else addEventListener("DOMContentLoaded", show);
}
addEventListener("error", event => fail(event.message || "a script failed"));
addEventListener("unhandledrejection", event => fail(String(event.reason)));
addEventListener("securitypolicyviolation", event => fail("blocked: " + event.violatedDirective));
