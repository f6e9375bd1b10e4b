// Keeps the parts of a page that are marked data-live up to date. Without it every page works all the same.
//
// The page itself is asked for again and compared node by node, so that focus, an open box and what was typed stay. A part
// marked data-live="hold" is left alone while the focus is in it: its rows could move under the finger.
"use strict";
(() => {
  const INTERVAL = 2000;
  const parts = [...document.querySelectorAll("[data-live]")];
  if (parts.length === 0) return;
  const stale = document.getElementById("stale");
  const address = location.pathname + location.search.replace(/([?&])notice=[^&]*/, "$1");
  let failures = 0;

  const same = (a, b) => a.nodeType === b.nodeType && a.nodeName === b.nodeName;

  const update = (old, fresh) => {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    for (const { name } of [...old.attributes]) {
      if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    const wanted = [...fresh.childNodes];
    wanted.forEach((node, index) => {
      const there = old.childNodes[index];
      if (there === undefined) old.append(document.importNode(node, true));
      else if (same(there, node)) update(there, node);
      else there.replaceWith(document.importNode(node, true));
    });
    while (old.childNodes.length > wanted.length) old.lastChild.remove();
  };

  const refresh = async () => {
    const answer = await fetch(address, { headers: { accept: "text/html" }, cache: "no-store" });
    if (answer.redirected) location.reload();
    else if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of parts) {
      const fresh = page.getElementById(part.id);
      const held = part.dataset.live === "hold" && part.contains(document.activeElement);
      if (fresh !== null && !held) update(part, fresh);
    }
    document.title = page.title;
  };

  const tick = async () => {
    if (!document.hidden) {
      try {
        await refresh();
        failures = 0;
      } catch {
        failures += 1;
      }
      if (stale !== null) stale.hidden = failures < 2;
    }
    setTimeout(tick, INTERVAL);
  };
  setTimeout(tick, INTERVAL);
})();
