"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const byId = (id) => document.getElementById(id);
  const chart = document.querySelector(".chart");
  if (!chart) return;
  const bars = all(".bar", chart);
  const barOf = new Map(bars.map((bar) => [bar.hash.slice(1), bar]));
  const panel = byId("panel"), tip = byId("tip");
  let chosen = null;

  document.querySelector(".controls").hidden = false;
  bars.forEach((bar) => bar.removeAttribute("title"));

  const needed = (bar, on) => bar.dataset.needs.split(" ").forEach((id) => {
    if (barOf.has(id)) barOf.get(id).classList.toggle("needed", on);
  });
  const show = (bar) => {
    needed(bar, true);
    tip.textContent = bar.getAttribute("aria-label");
    tip.hidden = false;
    const at = bar.getBoundingClientRect(), size = tip.getBoundingClientRect();
    const below = at.bottom + 8 + size.height < innerHeight;
    tip.style.left = Math.max(8, Math.min(at.left, innerWidth - size.width - 8)) + "px";
    tip.style.top = (below ? at.bottom + 8 : Math.max(8, at.top - size.height - 8)) + "px";
  };
  const hide = (bar) => {
    needed(bar, false);
    tip.hidden = true;
  };
  const close = () => {
    panel.hidden = true;
    if (!chosen) return;
    chosen.classList.remove("chosen");
    chosen.focus({ preventScroll: true });
    chosen = null;
  };
  const open = (bar, keyboard) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = bar;
    bar.classList.add("chosen");
    const step = byId(bar.hash.slice(1)).cloneNode(true);
    step.removeAttribute("id");
    const title = document.createElement("h4");
    title.textContent = bar.closest(".lane").dataset.host;
    panel.lastElementChild.replaceChildren(title, step);
    all("details", step).forEach((d) => { d.open = d.querySelectorAll("li").length <= 12; });
    panel.hidden = false;
    panel.scrollTop = 0;
    if (keyboard) panel.focus();
  };
  const barAt = (event) => event.target.closest(".bar");

  for (const [type, act] of [["mouseover", show], ["mouseout", hide], ["focusin", show], ["focusout", hide]]) {
    chart.addEventListener(type, (event) => {
      const bar = barAt(event);
      if (bar) act(bar);
    });
  }
  chart.addEventListener("click", (event) => {
    const bar = barAt(event);
    if (!bar || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    tip.hidden = true;
    open(bar, event.detail === 0);
  });
  panel.firstElementChild.addEventListener("click", close);
  panel.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || !barOf.has(link.hash.slice(1))) return;
    event.preventDefault();
    const bar = barOf.get(link.hash.slice(1));
    bar.scrollIntoView({ block: "nearest", inline: "nearest" });
    open(bar, true);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    tip.hidden = true;
    close();
  });

  const filter = byId("filter"), failing = byId("failing");
  const select = () => {
    const text = filter.value.trim().toLowerCase();
    all(".lane", chart).forEach((lane) => {
      lane.hidden = !lane.dataset.host.toLowerCase().includes(text) || failing.checked && !lane.classList.contains("failing");
    });
    all(".group", chart).forEach((group) => { group.hidden = !group.querySelector(".lane:not([hidden])"); });
  };
  filter.addEventListener("input", select);
  failing.addEventListener("change", select);
  byId("fade").addEventListener("change", (event) => chart.classList.toggle("fade", event.target.checked));
  byId("zoom").addEventListener("input", (event) => chart.style.setProperty("--zoom", event.target.value));
})();
