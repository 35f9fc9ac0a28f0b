/** Pictures and videos that go with a message: checked against the server's limits, and shown. */

import { el } from "./elements.js";
import { config, count, t } from "./page.js";

const MIB = 2 ** 20;

/** `{name, type, blob}` of what a person chose, or an error text in its place. */
export function fileOf(blob) {
  const isVideo = blob.type.startsWith("video/");
  if (!isVideo && !blob.type.startsWith("image/")) return t("wrongFile", { name: blob.name });
  const limit = isVideo ? config.limits.videoBytes : config.limits.imageBytes;
  if (blob.size > limit) return t("largeFile", { name: blob.name, limit: count(Math.floor(limit / MIB)) });
  return { name: blob.name || (isVideo ? "video" : "image"), type: blob.type, blob };
}

/** Why these cannot go together, or an empty text. */
export function problemOf(files) {
  const videos = files.filter((file) => file.type.startsWith("video/")).length;
  if (videos > config.limits.videos) return t("manyVideos", { limit: config.limits.videos });
  if (files.length - videos > config.limits.images) return t("manyImages", { limit: config.limits.images });
  // Base64 makes four bytes of three.
  const sent = files.reduce((sum, file) => sum + file.blob.size, 0) * (4 / 3);
  if (sent > config.limits.requestBytes) return t("largeRequest", { limit: count(Math.floor(config.limits.requestBytes / MIB)) });
  return "";
}

/** A small picture of the file. The browser keeps the bytes for as long as the node is there. */
export function preview(file) {
  const address = URL.createObjectURL(file.blob);
  return file.type.startsWith("video/")
    ? el("video", { src: address, controls: true, preload: "metadata", "aria-label": file.name })
    : el("img", { src: address, alt: file.name });
}

/** Lets the bytes of the previews in `node` go. */
export function forgetPreviews(node) {
  for (const media of node.querySelectorAll("img[src^='blob:'], video[src^='blob:']")) URL.revokeObjectURL(media.src);
}
