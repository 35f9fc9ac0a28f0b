/** The form of the parameters. A field that is left empty is not sent: the server's default holds. */

export class Parameters {
  #form; #badge;

  constructor(form, badge, onChange) {
    this.#form = form;
    this.#badge = badge;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.closest("dialog").close();
    });
    form.addEventListener("input", () => {
      this.#count();
      onChange(this.read());
    });
    form.addEventListener("reset", () => setTimeout(() => form.dispatchEvent(new Event("input"))));
  }

  get #fields() {
    return [...this.#form.elements].filter((field) => field.name);
  }

  /** As a request takes them. A number that cannot be read is left out. */
  read() {
    const values = {};
    for (const { name, value, type, validity, dataset } of this.#fields) {
      if (!value.trim() || !validity.valid) continue;
      if (type === "number") values[name] = Number(value);
      else if (dataset.lines !== undefined) values[name] = value.split("\n").filter(Boolean);
      else values[name] = value;
    }
    return values;
  }

  write(values) {
    for (const field of this.#fields) {
      const value = values?.[field.name] ?? "";
      field.value = Array.isArray(value) ? value.join("\n") : value;
    }
    this.#count();
  }

  #count() {
    const set = Object.keys(this.read()).length;
    this.#badge.hidden = !set;
    this.#badge.textContent = set;
  }
}
