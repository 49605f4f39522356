// Sorting by the buttons in the headers, filtering by the forms above the tables, and pages of long tables; how a table is
// sorted and filtered stands in the address. What a column holds is read from its cells, so a page without this script is
// the whole table or, of a long one, its beginning: a file beside the page (`window.benchRows`) then holds all rows.
(() => {
  "use strict";

  const LONG = 30; // rows from which on a table scrolls within the page
  const reader = document.createElement("template"); // nothing within it is loaded or run

  // What stands in one column of a row: HTML, read when it is asked for. Rows of a file share what is the same in them.
  class Cell {
    constructor(html) { this.html = html; }

    read() {
      if (this.words === undefined) {
        reader.innerHTML = this.html;
        this.words = reader.content.textContent.trim();
        this.start = reader.content.firstChild ? reader.content.firstChild.textContent.trim() : "";
      }
      return this;
    }

    // The number by which it is ranked: none where it is not of what its rivals are of.
    get ranked() { return this.html.includes('class="partial"') ? null : this.number; }

    get text() { return this.read().words; }

    // Its number, or null; an interval beneath it is not part of it.
    get number() {
      const number = parseFloat(this.read().start.replace(/,/g, ""));
      return Number.isNaN(number) ? null : number;
    }
  }

  function fromPage(element) {
    const cells = [...element.cells].map((cell) => new Cell(cell.innerHTML));
    return { element, cells, view: element.dataset.view || "", group: element.dataset.group };
  }

  function fromFile({ texts, rows }) {
    const cells = texts.map((html) => new Cell(html));
    return rows.map(([group, view, ...places]) => ({ cells: places.map((i) => cells[i]), view: texts[view], group }));
  }

  // A row's element; one from a file is made when it is first shown.
  function elementOf(row) {
    if (!row.element) {
      const [name, ...others] = row.cells.map((cell) => cell.html);
      row.element = document.createElement("tr");
      row.element.innerHTML = `<th scope="row">${name}</th>${others.map((html) => `<td>${html}</td>`).join("")}`;
    }
    return row.element;
  }

  class Table {
    constructor(element) {
      this.element = element;
      this.headers = [...element.tHead.rows[0].cells];
      this.keys = this.headers.map((header) => header.dataset.key || header.textContent);
      // Within rows that compare, the page has them from the best of this column down; -1: in no such order.
      this.first = this.headers.findIndex((header) => "first" in header.dataset);
      const file = (window.benchRows || {})[element.id], inPage = [...element.tBodies[0].rows];
      this.given = file ? fromFile(file) : inPage.map(fromPage);
      this.most = Math.max(1, inPage.length); // rows shown at once
      const form = document.querySelector(`form.filters[data-table="${element.id}"]`);
      this.filter = form ? new Filter(form, this) : null;
      this.addPages();
      this.headers.forEach((header, column) => {
        header.querySelector("button").addEventListener("click", () => {
          const now = header.getAttribute("aria-sort");
          // Numbers are most often wanted from the highest down, names from the first on.
          this.sort({ column, descending: now ? now === "ascending" : header.classList.contains("num") });
          this.show();
          this.say();
        });
      });
      const missing = Number(element.dataset.total || 0) - this.given.length;
      if (missing > 0) this.sayMissing(missing);
      this.fromAddress();
      element.classList.add("ready");
      document.addEventListener("addresschange", () => this.fromAddress());
    }

    fromAddress() {
      const said = benchAddress.of(this.element.id), { sort = "" } = said;
      const column = this.keys.indexOf(sort.replace(/^-/, ""));
      this.sort(column < 0 ? null : { column, descending: sort.startsWith("-") });
      if (this.filter) this.filter.set(said);
      this.show();
    }

    say(typing = false) {
      const { sorting } = this, sort = sorting ? (sorting.descending ? "-" : "") + this.keys[sorting.column] : undefined;
      benchAddress.say(this.element.id, { ...(this.filter ? this.filter.values() : {}), sort }, { typing });
    }

    // By a column's numbers, or by its texts; what is missing comes last, and equal rows stay as the page has them. Null:
    // all as the page has them.
    sort(sorting) {
      this.sorting = sorting;
      this.ranking = sorting && "rank" in this.headers[sorting.column].dataset ? sorting.column : this.first;
      this.rows = this.given;
      if (!sorting) return;
      const { column, descending } = sorting;
      let key = (row) => row.cells[column].number;
      if (!this.headers[column].classList.contains("num")) {
        const text = (row) => row.cells[column].text.toLowerCase();
        const { compare } = new Intl.Collator(undefined, { numeric: true });
        const places = new Map([...new Set(this.given.map(text))].sort(compare).map((name, place) => [name, place]));
        key = (row) => places.get(text(row));
      }
      const keyed = this.given.map((row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return descending ? b - a : a - b;
      });
      this.rows = keyed.map(([, row]) => row);
    }

    // The rows that the filter lets through, from the first page on.
    show() {
      const { filter } = this, inView = filter ? filter.inView() : () => true, fits = filter ? filter.fits() : () => true;
      this.shown = this.rows.filter((row) => inView(row) && fits(row));
      this.groups = new Set(this.shown.map(({ group }) => group));
      if (this.ranking >= 0) this.rank(this.rows.filter((row) => this.groups.has(row.group) && inView(row)));
      const sorted = this.sorting || (this.groups.size === 1 && this.first >= 0 ? { column: this.first, descending: true } : null);
      this.headers.forEach((header, i) => {
        if (sorted && i === sorted.column) header.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
        else header.removeAttribute("aria-sort");
      });
      this.element.parentElement.classList.toggle("long", this.shown.length > LONG);
      if (filter) filter.say(sorted);
      this.turn(0);
    }

    // Each row's place among those that it compares with; equal ones share it.
    rank(rows) {
      const number = (row) => row.cells[this.ranking].ranked, groups = new Map();
      for (const row of rows) {
        if (!groups.has(row.group)) groups.set(row.group, []);
        if (number(row) !== null) groups.get(row.group).push(number(row));
      }
      const sign = this.headers[this.ranking].dataset.rank === "low" ? 1 : -1;
      groups.forEach((numbers) => numbers.sort((a, b) => sign * (a - b)));
      for (const row of rows) row.rank = number(row) === null ? "" : groups.get(row.group).indexOf(number(row)) + 1;
    }

    turn(page) {
      this.page = page;
      const start = page * this.most, rows = this.shown.slice(start, start + this.most);
      this.element.tBodies[0].replaceChildren(...rows.map((row) => {
        const element = elementOf(row);
        if (this.ranking >= 0) element.cells[0].dataset.rank = row.rank;
        return element;
      }));
      this.element.dataset.shown = this.shown.length;
      this.element.parentElement.scrollTop = 0;
      const last = Math.ceil(this.shown.length / this.most) - 1;
      this.pages.hidden = last < 1;
      this.place.textContent = `rows ${start + 1} to ${start + rows.length} of ${this.shown.length}`;
      this.before.setAttribute("aria-disabled", page === 0);
      this.after.setAttribute("aria-disabled", page >= last);
      this.element.dispatchEvent(new Event("rowschange"));
    }

    addPages() {
      const button = (name, by) => {
        const made = document.createElement("button");
        made.type = "button";
        made.textContent = name;
        made.addEventListener("click", () => {
          // It keeps the focus at the end: it says that it is of no use, and is not switched off.
          if (made.getAttribute("aria-disabled") !== "true") this.turn(this.page + by);
        });
        return made;
      };
      this.before = button("Previous", -1);
      this.after = button("Next", 1);
      this.place = document.createElement("span");
      this.place.setAttribute("role", "status");
      this.pages = document.createElement("nav");
      this.pages.className = "pages";
      this.pages.hidden = true;
      this.pages.setAttribute("aria-label", `Pages of the table ${this.element.caption.textContent}`);
      this.pages.append(this.before, this.after, this.place);
      this.element.parentElement.after(this.pages);
    }

    sayMissing(missing) {
      const notice = document.createElement("p");
      notice.className = "notice";
      notice.textContent = `${missing} rows of this table are missing: their file in the folder "rows" beside this page is `
        + "not there. Copy the whole folder of the report.";
      this.element.parentElement.before(notice);
    }
  }

  class Filter {
    constructor(form, table) {
      this.form = form;
      this.table = table;
      this.controls = [...form.querySelectorAll("select, input")];
      this.count = document.getElementById(`${table.element.id}-count`);
      this.mixed = document.getElementById(`${table.element.id}-mixed`);
      this.context = table.headers.flatMap((header, i) => ("context" in header.dataset ? [i] : []));
      this.optional = table.headers.flatMap((header, i) => ("optional" in header.dataset ? [i] : []));
      this.hiding = document.head.appendChild(document.createElement("style"));
      const changed = (typing) => {
        table.show();
        table.say(typing);
      };
      form.addEventListener("input", (event) => changed(event.target.name === "search"));
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", (event) => {
        event.preventDefault();
        this.set({});
        changed(false);
      });
    }

    atFirst(control) {
      return control.dataset.default ?? (control.options ? control.options[0].value : "");
    }

    set(said) {
      for (const control of this.controls) {
        const wanted = said[control.name], known = !control.options || [...control.options].some(({ value }) => value === wanted);
        control.value = wanted !== undefined && known ? wanted : this.atFirst(control);
      }
    }

    // What is chosen otherwise than at first.
    values() {
      const chosen = this.controls.map((control) => [control.name, control.value === this.atFirst(control) ? undefined : control.value]);
      return Object.fromEntries(chosen);
    }

    // Single networks, or means over seeds.
    inView() {
      const view = this.form.elements.view ? this.form.elements.view.value : "mean";
      return (row) => !row.view || row.view === "both" || row.view === view;
    }

    fits() {
      const { keys } = this.table, search = this.form.elements.search ? this.form.elements.search.value.trim().toLowerCase() : "";
      const wanted = this.controls.filter(({ options, name, value }) => options && name !== "view" && value)
        .map(({ name, value }) => [keys.indexOf(name), value]);
      const searched = this.table.first >= 0 // a leaderboard: its defenses
        ? (row) => row.cells[0].text
        : (row) => row.cells.map((cell) => cell.text).join(" ");
      return (row) => wanted.every(([column, value]) => row.cells[column].text === value)
        && (!search || searched(row).toLowerCase().includes(search));
    }

    // How many rows there are, what all of them share (a column that says the same in each row is said once), and their order.
    say(sorted) {
      const { element, headers, given, groups, ranking, shown } = this.table, same = [];
      const hidden = this.optional.filter((column) => shown.every((row) => row.cells[column].number === null));
      for (const column of this.context) {
        const text = shown.length > 1 ? shown[0].cells[column].text : "";
        if (shown.length < 2 || shown.some((row) => row.cells[column].text !== text)) continue;
        same.push(text);
        hidden.push(column);
      }
      this.hiding.textContent = hidden.map((column) => (
        `#${element.id} :is(th, td):nth-child(${column + 1}) { display: none; }`)).join("\n");
      const number = document.createElement("b");
      number.textContent = `${shown.length} of ${given.length} rows`;
      const name = (column) => headers[column].textContent;
      this.count.replaceChildren(number, same.length ? `, all of them: ${same.join(" · ")}` : "",
        sorted ? `. Sorted by ${name(sorted.column)}, ${order(headers[sorted.column], sorted.descending)}` : "",
        ranking >= 0 ? `. Ranks: by ${name(ranking)}, among rows that compare` : "", ".");
      if (!this.mixed) return;
      this.mixed.hidden = groups.size < 2;
      this.mixed.textContent = `These rows are of ${groups.size} groups that do not compare: they differ in dataset, student, `
        + "attack, protocol, schedule or images. Choose one of each to rank defenses.";
    }
  }

  const order = (header, descending) => (header.classList.contains("num")
    ? `${descending ? "highest" : "lowest"} first` : descending ? "Z to A" : "A to Z");

  document.querySelectorAll("table.sortable").forEach((element) => new Table(element));
})();
