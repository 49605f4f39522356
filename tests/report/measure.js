// What is wrong with the looks of a page, measured in the browser:
// low: each text whose contrast with what is behind it is below 4.5:1 (WCAG 2.1, AA), as [text, contrast, its element];
// looked: how many texts were looked at;
// cut: tables of which a part cannot be seen; `fits`: whether each is to be seen as a whole, without scrolling;
// over: texts of charts, their legends above all, that lie on each other or are cut.
(fits) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const once = (of, known = new Map()) => (key) => known.get(key) ?? known.set(key, of(key)).get(key);
  // [red, green, blue, alpha], parts in [0, 1], of any colour that CSS knows.
  const parts = once((colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map((part) => part / 255);
  });
  const mixed = ([r, g, b, alpha], below) => [r, g, b].map((part, i) => alpha * part + (1 - alpha) * below[i]);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = once((element) => (element
    ? mixed(parts(getComputedStyle(element).backgroundColor), behind(element.parentElement)) : [1, 1, 1]));
  const opacity = once((element) => (element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1));
  const low = [];
  let looked = 0;
  const look = (element, text, style, shown = 1) => {
    const colour = [...parts(element.ownerSVGElement ? style.fill : style.color)], ground = behind(element);
    colour[3] *= shown * opacity(element);
    if (colour[3] === 0) return; // a hint that is not there yet
    const [dark, light] = [luminance(mixed(colour, ground)), luminance(ground)].sort((a, b) => a - b);
    const ratio = (light + 0.05) / (dark + 0.05);
    looked += 1;
    if (ratio < 4.5) low.push([text.trim().slice(0, 40), ratio, element.outerHTML.slice(0, 100)]);
  };
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
  for (const element of document.querySelectorAll("body *")) {
    if (!element.checkVisibility({ visibilityProperty: true }) || element.tagName === "OPTION") continue;
    const style = getComputedStyle(element);
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join("");
    if (own.trim() || element.tagName === "SELECT") look(element, own, style);
    for (const pseudo of ["::before", "::after"]) {
      const made = getComputedStyle(element, pseudo);
      if (!["none", "normal", '""', '" "'].includes(made.content)) look(element, made.content, made, made.opacity);
    }
    const placeholder = getComputedStyle(element, "::placeholder");
    if (element.placeholder) look(element, element.placeholder, placeholder, placeholder.opacity);
  }

  const cut = [];
  for (const box of document.querySelectorAll(".scroll")) {
    const row = box.querySelector("tbody tr"), said = `${box.ariaLabel}: ${box.scrollWidth} of ${box.clientWidth}`;
    if (!box.clientWidth || box.scrollWidth <= box.clientWidth) continue;
    if (fits) cut.push(said);
    box.scrollLeft = box.scrollWidth; // it scrolls to the last column, and the names of its rows stay
    const edge = (element, side) => element.getBoundingClientRect()[side];
    if (edge(row.lastElementChild, "right") > edge(box, "right") + 1) cut.push(`last column of ${said}`);
    if (edge(row.querySelector("th[scope=row]"), "left") < edge(box, "left") - 1) cut.push(`names of ${said}`);
  }

  const over = [], TEXTS = ".legendtext, .xtitle, .ytitle, .y2title, .y3title, .xtick text, .x3tick text";
  for (const chart of document.querySelectorAll(".chart")) {
    const outer = chart.getBoundingClientRect();
    const texts = [...chart.querySelectorAll(TEXTS)].map((text) => [text.textContent, text.getBoundingClientRect()]);
    texts.forEach(([text, box], i) => {
      if (box.left < outer.left || box.right > outer.right || box.bottom > outer.bottom) over.push(`${text} is cut`);
      for (const [other, its] of texts.slice(i + 1)) {
        const apart = box.right <= its.left + 1 || its.right <= box.left + 1 || box.bottom <= its.top + 2 || its.bottom <= box.top + 2;
        if (!apart) over.push(`${text} over ${other}`);
      }
    });
  }
  return { low, looked, cut, over };
}
