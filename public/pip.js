/** Picture in picture, by the standard and by the older form of Safari. */

/**
 * Returns the functions for a video element. Firefox has its own button on videos
 * and no function for pages.
 * @param {any} video
 * @param {any} doc
 */
export function pictureInPicture(video, doc = document) {
  if (typeof video.requestPictureInPicture === 'function') {
    return {
      supported: doc.pictureInPictureEnabled === true,
      isActive: () => doc.pictureInPictureElement === video,
      enter: async () => void await video.requestPictureInPicture(),
      exit: async () => doc.exitPictureInPicture(),
    };
  }
  const mode = 'picture-in-picture';
  return {
    supported: video.webkitSupportsPresentationMode?.(mode) === true,
    isActive: () => video.webkitPresentationMode === mode,
    enter: async () => video.webkitSetPresentationMode(mode),
    exit: async () => video.webkitSetPresentationMode('inline'),
  };
}

/**
 * Sets up a button for a video. It is hidden where the browser has no such function.
 * @param {HTMLVideoElement} video
 * @param {HTMLButtonElement} button
 */
export function bindPictureInPicture(video, button) {
  const functions = pictureInPicture(video);
  button.hidden = !functions.supported;
  button.addEventListener('click', () => {
    (functions.isActive() ? functions.exit() : functions.enter()).catch(() => {}); // there is no picture yet
  });
  for (const event of ['enterpictureinpicture', 'leavepictureinpicture', 'webkitpresentationmodechanged']) {
    video.addEventListener(event, () => button.setAttribute('aria-pressed', String(functions.isActive())));
  }
}

/**
 * Ends picture in picture, for example because the call has ended.
 * @param {HTMLVideoElement} video
 */
export function leavePictureInPicture(video) {
  const functions = pictureInPicture(video);
  if (functions.supported && functions.isActive()) functions.exit().catch(() => {});
}
