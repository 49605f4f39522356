// The accuracy of every class as a table of colours: a row a network, a column a class.
(() => {
  "use strict";

  const KEYS = ["Dataset", "Student", "Attack", "Protocol", "Schedule", "Images"];
  // Cividis (Nunez et al. 2018), every tenth of the way from 0 to 100 %: even steps for readers of all colour visions.
  const COLOURS = ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "e1cc55", "f3da4a", "fee838"]
    .map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));

  const byId = (id) => document.getElementById(id);
  const { choices, intervals } = JSON.parse(byId("classes-data").textContent);
  const form = byId("class-choice"), table = byId("classes"), note = byId("classes-note");

  function colour(percent) {
    const place = percent / (100 / (COLOURS.length - 1)), low = Math.min(Math.floor(place), COLOURS.length - 2);
    return COLOURS[low].map((part, i) => Math.round(part + (place - low) * (COLOURS[low + 1][i] - part)));
  }

  // Black or white, whichever has more contrast (WCAG 2): on any colour that is 4.58:1 or more.
  function ink(rgb) {
    const [r, g, b] = rgb.map((part) => (part <= 10 ? part / 3294.6 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.179 ? "#000" : "#fff";
  }

  function element(name, text, more = {}) {
    const made = document.createElement(name);
    made.textContent = text;
    return Object.assign(made, more);
  }

  const selects = KEYS.map((name, i) => {
    const label = document.createElement("label"), select = element("select", "", { name });
    select.append(...[...new Set(choices.map(({ key }) => key[i]))].sort().map((value) => new Option(value)));
    label.append(`${name} `, select);
    label.hidden = select.options.length < 2;
    form.append(label);
    return select;
  });

  // The choice that has what was changed last, and of the rest as much as there is.
  function nearest(wanted, changed) {
    const likeness = ({ key }) => key.reduce((sum, value, i) => sum + (value === wanted[i] ? (i === changed ? 100 : 1) : 0), 0);
    return choices.reduce((best, choice) => (likeness(choice) > likeness(best) ? choice : best));
  }

  function cell(value, i, { counts, classes }, worst) {
    // With the samples of each class known, the data hold how many are right; else percentages.
    const count = counts ? counts[i] : 0, percent = value === null || !counts ? value : count ? (100 * value) / count : null;
    if (percent === null) return element("td", "–", { title: `${classes[i]}: no samples` });
    const bounds = count ? intervals[`${value}/${count}`] : null, rgb = colour(percent);
    const made = element("td", percent.toFixed(0), {
      title: `${classes[i]}: ${percent.toFixed(1)} %${bounds ? ` [${bounds[0]}, ${bounds[1]}]` : ""}${count ? `, n = ${count}` : ""}`,
      className: worst ? "worst" : "",
    });
    made.style.background = `rgb(${rgb})`;
    made.style.color = ink(rgb);
    return made;
  }

  function draw(choice) {
    const head = document.createElement("tr"), { classes, networks } = choice;
    head.append(element("th", "Defense", { scope: "col" }), ...classes.map((name) => element("th", "", { scope: "col" })));
    classes.forEach((name, i) => head.cells[i + 1].append(element("span", name)));
    table.tHead.replaceChildren(head);
    table.tBodies[0].replaceChildren(...networks.map(({ name, values, worst }) => {
      const row = document.createElement("tr");
      row.append(element("th", name, { scope: "row" }), ...values.map((value, i) => cell(value, i, choice, i === worst)));
      return row;
    }));
    table.classList.toggle("upright", classes.length > 12 || classes.some((name) => name.length > 10));
    selects.forEach((select, i) => { select.value = choice.key[i]; });
    note.textContent = `${choice.key.join(" · ")}. Framed: the worst class of each network.`
      + (choice.left_out ? ` The most robust ${networks.length} networks; ${choice.left_out} more are in the table below.` : "");
  }

  function fromAddress() {
    const said = benchAddress.of("classes");
    draw(nearest(KEYS.map((name, i) => said[name.toLowerCase()] ?? choices[0].key[i]), -1));
  }

  form.addEventListener("input", (event) => {
    const choice = nearest(selects.map((select) => select.value), selects.indexOf(event.target));
    draw(choice);
    const differs = KEYS.map((name, i) => [name.toLowerCase(), choice.key[i] === choices[0].key[i] ? undefined : choice.key[i]]);
    benchAddress.say("classes", Object.fromEntries(differs));
  });
  document.addEventListener("addresschange", fromAddress);
  fromAddress();
})();
