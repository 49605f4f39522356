// Sorting by the buttons in the headers, filtering by the forms above the tables, and pages of long tables. What a column
// holds is read from its cells, so a page without this script is the whole table or, of a long one, its beginning: a file
// beside the page (`window.benchRows`) then holds all rows.
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
      const file = (window.benchRows || {})[element.id], inPage = [...element.tBodies[0].rows];
      this.rows = file ? fromFile(file) : inPage.map(fromPage);
      this.most = Math.max(1, inPage.length); // rows shown at once
      this.fits = () => true;
      this.shown = this.rows;
      this.addPages();
      this.headers.forEach((header, column) => {
        header.querySelector("button").addEventListener("click", () => {
          const now = header.getAttribute("aria-sort");
          // Numbers are most often wanted from the highest down, names from the first on.
          this.sort(column, now ? now === "ascending" : header.classList.contains("num"));
        });
      });
      const missing = Number(element.dataset.total || 0) - this.rows.length;
      if (missing > 0) this.sayMissing(missing);
    }

    // By a column's numbers, or by its texts; what is missing comes last, and equal rows stay as they were.
    sort(column, descending) {
      const numeric = this.headers[column].classList.contains("num");
      let key = (row) => row.cells[column].number;
      if (!numeric) {
        const text = (row) => row.cells[column].text.toLowerCase();
        const { compare } = new Intl.Collator(undefined, { numeric: true });
        const places = new Map([...new Set(this.rows.map(text))].sort(compare).map((name, place) => [name, place]));
        key = (row) => places.get(text(row));
      }
      const keyed = this.rows.map((row) => [key(row), row]);
      keyed.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return descending ? b - a : a - b;
      });
      this.rows = keyed.map(([, row]) => row);
      this.headers.forEach((header, i) => {
        if (i === column) header.setAttribute("aria-sort", descending ? "descending" : "ascending");
        else header.removeAttribute("aria-sort");
      });
      this.show();
    }

    // The rows that fit, from the first page on.
    show(fits = this.fits) {
      this.fits = fits;
      this.shown = this.rows.filter(fits);
      this.element.parentElement.classList.toggle("long", this.shown.length > LONG);
      this.turn(0);
    }

    turn(page) {
      this.page = page;
      const start = page * this.most, rows = this.shown.slice(start, start + this.most);
      this.element.tBodies[0].replaceChildren(...rows.map(elementOf));
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
      this.count = document.getElementById(`${table.element.id}-count`);
      this.mixed = document.getElementById(`${table.element.id}-mixed`);
      this.keys = table.headers.map((header) => header.dataset.key || "");
      this.context = table.headers.flatMap((header, i) => ("context" in header.dataset ? [i] : []));
      form.addEventListener("input", () => this.apply());
      form.addEventListener("submit", (event) => event.preventDefault());
      form.addEventListener("reset", (event) => { event.preventDefault(); this.reset(); });
      this.reset();
      table.element.classList.add("ready");
    }

    reset() {
      for (const select of this.form.querySelectorAll("select")) {
        const wanted = select.dataset.default;
        select.selectedIndex = 0;
        if (wanted !== undefined) select.value = wanted;
      }
      const search = this.form.elements.search;
      if (search) search.value = "";
      this.apply();
    }

    apply() {
      const view = this.form.elements.view ? this.form.elements.view.value : "mean";
      const search = this.form.elements.search ? this.form.elements.search.value.trim().toLowerCase() : "";
      const wanted = [...this.form.querySelectorAll("select")]
        .filter((select) => select.name !== "view" && select.value)
        .map((select) => [this.keys.indexOf(select.name), select.value]);
      const searched = this.table.element.id === "leaderboard"
        ? (row) => row.cells[0].text
        : (row) => row.cells.map((cell) => cell.text).join(" ");
      this.table.show((row) => (!row.view || row.view === "both" || row.view === view)
        && wanted.every(([column, value]) => row.cells[column].text === value)
        && (!search || searched(row).toLowerCase().includes(search)));
      this.say(this.table.shown);
    }

    // How many rows there are, and what all of them share: a column that says the same in each row is said once.
    say(shown) {
      const same = [];
      for (const column of this.context) {
        const text = shown.length > 1 ? shown[0].cells[column].text : "";
        const common = shown.length > 1 && shown.every((row) => row.cells[column].text === text);
        this.table.element.classList.toggle(`hide-${column + 1}`, common);
        if (common) same.push(text);
      }
      const number = document.createElement("b");
      number.textContent = `${shown.length} of ${this.table.rows.length} rows`;
      this.count.replaceChildren(number, same.length ? `, all of them: ${same.join(" · ")}` : "");
      if (!this.mixed) return;
      const groups = new Set(shown.map((row) => row.group)).size;
      this.mixed.hidden = groups < 2;
      this.mixed.textContent = `These rows are of ${groups} groups that do not compare: they differ in dataset, student, `
        + "attack, protocol, schedule or images. Choose one of each to rank defenses.";
    }
  }

  const tables = new Map([...document.querySelectorAll("table.sortable")].map((element) => [element, new Table(element)]));
  const filters = [...document.querySelectorAll("form.filters[data-table]")].map((form) => {
    const name = form.getAttribute("data-table"); // form.dataset is its select of that name
    const table = tables.get(document.getElementById(name));
    new Filter(form, table);
    return table;
  });
  tables.forEach((table) => { if (!filters.includes(table)) table.show(); });
})();
