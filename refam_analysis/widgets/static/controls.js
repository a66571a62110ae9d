/**
 * What a reader sets and reads beside a picture: sliders, choices, switches, stacked shares.
 *
 * Each `create...` gives `{element, update(state)}`; `update` never calls the listeners. Built on the browser's own
 * controls, which bring keyboard, touch and names for screen readers.
 */
import { element } from "./drawing.js";

let number = 0;

/** A name that no other control of the page has. */
function fresh(what) {
  number += 1;
  return `refam-${what}-${number}`;
}

/** update: low, high, value: whole numbers; text: the value in words. */
export function createSlider({ label, onChange }) {
  const id = fresh("slider");
  const input = element("input", { type: "range", step: "1", id, input: () => onChange(Number(input.value)) });
  const output = element("output", { for: id, class: "refam-slider-text" });
  const whole = element(
    "div", { class: "refam-control refam-slider" },
    element("label", { for: id, class: "refam-label" }, label),
    element("div", { class: "refam-slider-row" }, input, output),
  );
  function update({ low, high, value, text }) {
    [input.min, input.max, input.value] = [String(low), String(high), String(value)];
    input.setAttribute("aria-valuetext", text);
    output.textContent = text;
  }
  return { element: whole, update };
}

/** One of a few: radio buttons in a row. update: choices: [{value, text, note}], chosen: a value. */
export function createChoices({ label, onChange }) {
  const name = fresh("choice");
  const row = element("div", { class: "refam-choices-row" });
  const whole = element(
    "fieldset", { class: "refam-control refam-choices" }, element("legend", { class: "refam-label" }, label), row,
  );
  let made = "";
  function update({ choices, chosen }) {
    const wanted = JSON.stringify(choices);
    if (wanted !== made) {
      row.replaceChildren(...choices.map(({ value, text, note }) => element(
        "label", { class: "refam-choice", title: note },
        element("input", { type: "radio", name, value, change: () => onChange(value) }), element("span", {}, text),
      )));
      made = wanted;
    }
    row.querySelectorAll("input").forEach((input, index) => { input.checked = choices[index].value === chosen; });
  }
  return { element: whole, update };
}

/** On or off. update: on: whether it is. */
export function createSwitch({ label, onChange }) {
  const button = element(
    "button",
    {
      type: "button", role: "switch", class: "refam-switch", "aria-checked": "false",
      click: () => onChange(button.getAttribute("aria-checked") !== "true"),
    },
    element("span", { class: "refam-switch-knob", "aria-hidden": "true" }), element("span", {}, label),
  );
  return { element: button, update: ({ on }) => button.setAttribute("aria-checked", String(on)) };
}

/** A share as a reader is told it. */
export function percent(share) {
  return `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;
}

/**
 * Shares of a whole, stacked in a bar a row.
 *
 * update: rows: [{text, parts: [{text, share, role}]}], the shares of a row summing to 1; role: a token kind, or
 * "target", "other", "background".
 */
export function createBars({ label }) {
  const rows = element("div", { class: "refam-bars-rows" });
  const key = element("ul", { class: "refam-key", "aria-hidden": "true" });
  const whole = element(
    "div", { class: "refam-bars", role: "group", "aria-label": label },
    element("p", { class: "refam-label", "aria-hidden": "true" }, label), rows, key,
  );
  function row({ text, parts }) {
    const spoken = `${text}: ${parts.map((part) => `${part.text} ${percent(part.share)}`).join(", ")}`;
    const segments = parts.map((part) => {
      const shown = part.share > 0.17 ? percent(part.share) : "";
      const made = element(
        "span", { class: `refam-part refam-kind-${part.role}`, title: `${part.text}: ${percent(part.share)}` }, shown,
      );
      made.style.flexGrow = String(part.share);
      return made;
    });
    return element(
      "div", { class: "refam-bars-row" }, element("span", { class: "refam-bars-text", "aria-hidden": "true" }, text),
      element("div", { class: "refam-stack", role: "img", "aria-label": spoken }, ...segments),
    );
  }
  function update({ rows: wanted }) {
    rows.replaceChildren(...wanted.map(row));
    const named = new Map(wanted.flatMap(({ parts }) => parts).map(({ text, role }) => [role, text]));
    key.replaceChildren(...[...named].map(([role, text]) => element("li", { class: `refam-kind-${role}` }, text)));
  }
  return { element: whole, update };
}
