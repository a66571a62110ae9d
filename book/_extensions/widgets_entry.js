/* The widget manager as one classic script: it draws the ipywidgets whose state a notebook has left in its page.

   Bundled when the book is built (book_widgets.py), so that it needs no loader, no module and no other host. */

import * as base from "@jupyter-widgets/base";
import { HTMLManager } from "@jupyter-widgets/html-manager";
import { renderWidgets } from "@jupyter-widgets/html-manager/lib/libembed";
import * as anywidget from "anywidget";

/* Beside the widgets of ipywidgets, which the manager knows, the book's notebooks use those of anywidget. It is made
   once: a view finds its model in what the making has made. */
const drawn = anywidget.default(base);

async function loader(name) {
    if (name === "anywidget") return drawn;
    throw new Error(`The book's widget manager has no module ${name}: add it to book/_extensions/widgets_entry.js.`);
}

/* A slider's handle is what a reader moves, and has no name of its own. */
function nameHandles() {
    for (const handle of document.querySelectorAll(".noUi-handle:not([aria-label])")) {
        const label = handle.closest(".widget-slider, .jupyter-widgets")?.querySelector(".widget-label")?.textContent;
        handle.setAttribute("aria-label", label?.trim() || "Value");
    }
}

window.addEventListener("load", async () => {
    await renderWidgets(() => new HTMLManager({ loader }));
    new MutationObserver(nameHandles).observe(document.body, { childList: true, subtree: true });
    nameHandles();
});
