/* Opened from disk, a page may not read another page's file, so results of a search come without their summaries. */

if (window.location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

/* Names for those who hear the page or speak to it: a control's name holds the words that are seen on it, and a list has
   items. The theme and its extensions give these others. */

document.addEventListener("DOMContentLoaded", () => {
  const unnamed = ".search-button-field[aria-label], details.hide > summary[aria-label]";
  document.querySelectorAll(unnamed).forEach((control) => control.removeAttribute("aria-label"));
  document.querySelectorAll(".theme-switch-button").forEach((button) => {
    button.setAttribute("aria-label", "Color mode: Light, Dark or System Settings");
  });
  document.querySelectorAll("li.has-children > details > summary").forEach((toggle) => {
    const parent = toggle.closest("li").querySelector(":scope > a");
    if (parent) toggle.setAttribute("aria-label", `Pages under ${parent.textContent.trim()}`);
  });
  document.querySelectorAll("dt.sig dl").forEach((parameters) => {
    parameters.setAttribute("role", "list");
    for (const one of parameters.children) one.setAttribute("role", "listitem");
  });
  document.querySelectorAll(".citation-list[role=list]").forEach((list) => list.removeAttribute("role"));
});

/* What scrolls must be within reach of the keyboard. Whether it does changes with the window, with fonts and pictures that
   come later, and with folds that open. */

document.addEventListener("DOMContentLoaded", () => {
  const wide = document.querySelectorAll(".bd-article pre, .bd-article table, .bd-article div.math, .bd-article figure, div.output.text_html");
  const reach = () => {
    for (const element of wide) {
      const across = element.scrollWidth > element.clientWidth + 1;
      const down = element.scrollHeight > element.clientHeight + 1;
      if ((across || down) && getComputedStyle(element).overflow !== "visible") element.tabIndex = 0;
      else element.removeAttribute("tabindex");
    }
  };
  const watch = new ResizeObserver(reach);
  for (const element of wide) {
    watch.observe(element);
    for (const part of element.children) watch.observe(part);
  }
  document.fonts.ready.then(reach);
});
