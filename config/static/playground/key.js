/** The caller's API key: in this tab's session storage and nowhere else. */

const NAME = "playground-key";

export const read = () => sessionStorage.getItem(NAME) ?? "";
export const keep = (key) => sessionStorage.setItem(NAME, key);
export const forget = () => sessionStorage.removeItem(NAME);
