// Elements, numbers and words: what every part of the page uses. Text only ever enters the page as
// text nodes and attributes, so that a name with markup in it does nothing.

// Entries looked up by what an address, a file or a reader names: only what stands in them is found,
// not what every object has ("constructor").
const lookup = (entries) => Object.assign(Object.create(null), entries);

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== false && child !== undefined),
  );
  return element;
}
const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers for reading. A missing value is a dash, never a zero.
const MISSING = "–";
const isMissing = (value) => value === null || value === undefined;
function whole(value) {
  return isMissing(value) ? MISSING : value.toLocaleString("en-US");
}
function short(value, digits = 3) {
  if (isMissing(value)) return MISSING;
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return scientific(Math.log10(size), value < 0);
  return Number(value.toPrecision(digits)).toLocaleString("en-US", {
    maximumSignificantDigits: digits,
  });
}
function percent(value) {
  if (isMissing(value)) return MISSING;
  return value === 0 ? "0 %" : `${short(100 * value)} %`;
}
function scientific(log10, negative = false) {
  if (isMissing(log10)) return MISSING;
  if (log10 <= -307) return "< 1e-307";
  return (negative ? "-" : "") + plainScientific(log10);
}
// E-values go below the smallest double: they are kept and shown by their logarithm
function plainScientific(log10) {
  if (isMissing(log10)) return MISSING;
  if (log10 > -2 && log10 < 4) return String(Number((10 ** log10).toPrecision(2)));
  let exponent = Math.floor(log10);
  let mantissa = (10 ** (log10 - exponent)).toFixed(1);
  if (mantissa === "10.0") {
    mantissa = "1.0";
    exponent += 1;
  }
  return `${mantissa}e${exponent}`;
}
// a probability of 0 is one below the smallest double
const probability = (value) => (value === 0 ? "< 1e-307" : short(value));
const plural = (count, one, many = one + "s") => `${whole(count)} ${count === 1 ? one : many}`;

function announce(words) {
  byId("announce").textContent = words;
}

function showTrouble(words, retry) {
  const box = byId("trouble");
  box.replaceChildren(h("span", {}, words));
  if (retry)
    box.append(
      h(
        "button",
        {
          type: "button",
          onclick: () => {
            box.hidden = true;
            retry();
          },
        },
        "Try again",
      ),
    );
  box.append(
    h(
      "button",
      {
        type: "button",
        "aria-label": "Close this message",
        onclick: () => {
          box.hidden = true;
        },
      },
      "Close",
    ),
  );
  box.hidden = false;
}
window.addEventListener("error", (event) => {
  if (event.message)
    showTrouble(
      `The page met an error: ${event.message}. Reload it; what you see may be incomplete.`,
    );
});
window.addEventListener("unhandledrejection", (event) => {
  showTrouble(
    `The page met an error: ${(event.reason && event.reason.message) || event.reason}. Reload it; what you see may be incomplete.`,
  );
});

// What the reader keeps lies in this browser only; a browser that refuses says so once.
const kept = {
  read(name) {
    try {
      return JSON.parse(window.localStorage.getItem(name));
    } catch {
      return null;
    }
  },
  write(name, value) {
    try {
      window.localStorage.setItem(name, JSON.stringify(value));
      return true;
    } catch {
      announce("This browser does not let the page keep anything; export before you close it.");
      return false;
    }
  },
};

const THEMES = lookup({ auto: "as the system", light: "light", dark: "dark" });
const themeListeners = [];
function startTheme() {
  const button = byId("theme-button");
  const apply = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = { auto: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[theme];
    button.setAttribute("aria-label", `Theme: ${THEMES[theme]}; press to change`);
    for (const listener of themeListeners) listener();
  };
  let theme = kept.read("saeborzoi:theme");
  if (!(theme in THEMES)) theme = "auto";
  apply(theme);
  button.addEventListener("click", () => {
    theme = { auto: "light", light: "dark", dark: "auto" }[theme];
    kept.write("saeborzoi:theme", theme);
    apply(theme);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply(theme));
}
const cssColour = (name) =>
  getComputedStyle(document.documentElement).getPropertyValue(name).trim();
