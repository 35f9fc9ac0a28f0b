// The offer to undo the last decision: F4 accepts it, and it disappears when it is too late.

const offer = document.querySelector(".desk-undo");

if (offer) {
  const button = offer.querySelector("button");
  setTimeout(() => offer.remove(), Number(offer.dataset.seconds) * 1000);
  document.addEventListener("keydown", (event) => {
    if (event.key === "F4" && !event.altKey && !event.repeat && offer.isConnected) {
      event.preventDefault();
      offer.querySelector("form").requestSubmit(button);
    }
  });
}
