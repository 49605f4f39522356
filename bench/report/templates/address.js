// What a page shows, in its address: `#leaderboard.attack=FGSM&leaderboard.sort=-clean`. A link opens the same view, and the
// browser's back goes to the view before. Only what differs from the page as it opens stands there.
(() => {
  "use strict";

  // An anchor within the page (`#content`) says nothing of what it shows: null.
  const inAddress = () => {
    const hash = location.hash.slice(1);
    return hash && !hash.includes("=") ? null : new URLSearchParams(hash);
  };
  let shown = inAddress() || new URLSearchParams();

  window.benchAddress = {
    // What is said of a table or chart, by name.
    of(owner) {
      const own = [...shown].filter(([name]) => name.startsWith(`${owner}.`));
      return Object.fromEntries(own.map(([name, value]) => [name.slice(owner.length + 1), value]));
    },

    // Say it; what is undefined is as the page opens. Typing is one step of the history, not one a letter.
    say(owner, values, { typing = false } = {}) {
      const said = new URLSearchParams([...shown].filter(([name]) => !name.startsWith(`${owner}.`)));
      for (const [name, value] of Object.entries(values)) if (value !== undefined) said.set(`${owner}.${name}`, value);
      if (String(said) === String(shown)) return;
      const keep = typing && shown.has(`${owner}.search`);
      shown = said;
      history[keep ? "replaceState" : "pushState"](null, "", String(said) ? `#${said}` : location.pathname + location.search);
    },
  };

  addEventListener("popstate", () => {
    const said = inAddress();
    if (!said || String(said) === String(shown)) return;
    shown = said;
    document.dispatchEvent(new Event("addresschange"));
  });
})();
