"use strict";
{
  const data = document.getElementById("people-data"), box = document.getElementById("person");
  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };
  const points = share => (share < 0 ? "\u2212" : "+") + Math.abs(100 * share).toFixed(1);
  const percent = share => share === null || share === undefined ? "\u2013" : (100 * share).toFixed(1) + "\u00a0%";
  const start = ({people, pictures, tastes}) => {
    const by = new Map(people.map(person => [person.user_id, person]));
    const input = document.getElementById("who");
    const item = (cell, mark, name) => {
      const line = make("li", undefined, name);
      line.append(make("span", mark, "mark"));
      const picture = cell.picture && pictures[cell.picture];
      if (picture && /^data:image\/jpeg;base64,[A-Za-z0-9+\/]+={0,2}$/.test(picture)) {
        const image = make("img", undefined, "thumbnail");
        image.src = picture;
        image.alt = cell.alt || "a picture";
        line.append(image);
      } else line.append(make("bdi", cell.text || "(nothing to show)"));
      return line;
    };
    const answers = (title, rows) => {
      if (!rows.length) return;
      box.append(make("h4", title));
      for (const row of rows) {
        const list = make("ul", undefined, "texts");
        if (row.prompt) list.append(item(row.prompt, "", "prompt"));
        list.append(item(row.chosen, "\u2713 chosen", ""), item(row.rejected, "\u2717 not chosen", ""));
        const other = row.p_one === null ? "" : ", one reward for everyone " + percent(row.p_one);
        list.append(make("li", "chance of this answer: personal " + percent(row.p) + other, "prompt"));
        box.append(list);
      }
    };
    const show = person => {
      box.replaceChildren();
      const title = make("h3");
      title.append(make("bdi", person.user_id));
      box.append(title);
      const said = [person.users === "seen" ? "in training" : "not in training, located by some answers"];
      if (person.group !== null) said.push("group " + person.group);
      if (person.n) {
        const gain = person.gain === null ? "" :
          " (" + points(person.gain) + " points against one reward for everyone)";
        said.push("right on " + percent(person.accuracy) + " of " + person.n + " held-out answer" + (person.n === 1 ? "" : "s") + gain);
      }
      if (person.outside) said.push("no mix of the prototypes explains these answers");
      for (const why of person.why || []) said.push(why);
      box.append(make("p", said.join("; ") + ".", "soft"));
      (person.weights || []).forEach((weight, k) => {
        const row = make("div", undefined, "share"), bar = make("div"), fill = make("i");
        fill.style.width = 100 * weight + "%";
        bar.className = "c" + k % 7;
        bar.append(fill);
        const name = make("span");
        name.append(make("b", tastes[k].name), make("bdi", tastes[k].title ? " " + tastes[k].title : ""));
        row.append(name, bar, make("span", percent(weight)));
        box.append(row);
      });
      answers("Answers that one reward for everyone would not expect", person.telling || []);
      answers("Where the model is wrong", person.mistakes || []);
      for (const dot of document.querySelectorAll(".person"))
        dot.classList.toggle("chosen", dot.dataset.person === person.user_id);
    };
    const choose = user => {
      const person = by.get(user);
      if (!person) return false;
      input.value = user;
      show(person);
      return true;
    };
    const step = by => {
      const at = people.findIndex(person => person.user_id === input.value);
      choose(people[(at + by + people.length) % people.length].user_id);
    };
    input.addEventListener("change", () => {
      if (!choose(input.value)) {
        const found = people.find(person => person.user_id.includes(input.value));
        if (found) choose(found.user_id);
        else box.replaceChildren(make("p", "Nobody of this name is on this page.", "soft"));
      }
    });
    document.getElementById("before").addEventListener("click", () => step(-1));
    document.getElementById("after").addEventListener("click", () => step(1));
    for (const dot of document.querySelectorAll(".person"))
      dot.addEventListener("click", () => {
        if (choose(dot.dataset.person)) document.getElementById("one-person").scrollIntoView();
      });
    if (people.length) choose(people[0].user_id);
  };
  if (data) start(JSON.parse(data.textContent));
}
