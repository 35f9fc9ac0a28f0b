/** What the server has written into the page: its settings, and the texts in the reader's language. */

const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const config = read("playground-config");
const texts = read("playground-texts");
const language = document.documentElement.lang;
const whole = new Intl.NumberFormat(language);
const tenths = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });

/** The text of this name, with `%(name)s` replaced by the values. */
export function t(name, values = {}) {
  return texts[name].replace(/%\((\w+)\)s/g, (_, key) => String(values[key]));
}

export const count = (number) => whole.format(number);
export const decimal = (number) => tenths.format(number);
export const day = (time) => new Date(time).toLocaleDateString(language, { day: "numeric", month: "short" });
