/**
 * Picture in picture, and full screen with controls that fade in on a movement of the pointer, a touch or
 * a key, and fade out three seconds later. They stay while the keyboard focus or
 * the pointer is on them.
 */

/** Milliseconds without activity before the controls fade out. */
const HIDE_DELAY = 3_000;

/** AutoHide decides when controls are hidden. It does not use the DOM. */
export class AutoHide {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #active = false;
  #hidden = false;
  #isHeld;
  #onChange;

  /**
   * @param {(hidden: boolean) => void} onChange
   * @param {() => boolean} isHeld whether the controls must stay: one of them has the focus, for example
   */
  constructor(onChange, isHeld) {
    this.#onChange = onChange;
    this.#isHeld = isHeld;
  }

  get hidden() {
    return this.#hidden;
  }

  /** Starts or ends hiding. While inactive, the controls are always visible. @param {boolean} active */
  setActive(active) {
    this.#active = active;
    this.show();
  }

  /** Shows the controls, and hides them after the delay. */
  show() {
    clearTimeout(this.#timer);
    this.#set(false);
    if (this.#active) this.#timer = setTimeout(() => this.#hideUnlessHeld(), HIDE_DELAY);
  }

  #hideUnlessHeld() {
    if (this.#isHeld()) this.show();
    else this.#set(true);
  }

  /** @param {boolean} hidden */
  #set(hidden) {
    if (this.#hidden === hidden) return;
    this.#hidden = hidden;
    this.#onChange(hidden);
  }
}

/**
 * The full-screen functions of a document, with the older names of Safari.
 * @param {any} root the element that fills the screen
 * @param {any} video iPhones can only show a video in full screen, with their own controls
 * @param {any} doc
 */
export function fullscreenFunctions(root, video, doc = document) {
  const request = root.requestFullscreen ?? root.webkitRequestFullscreen;
  const exit = doc.exitFullscreen ?? doc.webkitExitFullscreen;
  const enabled = Boolean(request && (doc.fullscreenEnabled ?? doc.webkitFullscreenEnabled));
  return {
    supported: enabled || typeof video.webkitEnterFullscreen === 'function',
    isActive: () => (doc.fullscreenElement ?? doc.webkitFullscreenElement ?? null) === root,
    enter: async () => enabled ? request.call(root) : video.webkitEnterFullscreen(),
    exit: async () => exit.call(doc),
  };
}

/** A finger leaves the state :hover behind on the control that it touched last. */
function heldSelector() {
  return matchMedia('(hover: hover)').matches ? ':hover, :focus-visible' : ':focus-visible';
}

/**
 * Ends full screen, for example because the call has ended.
 * @param {HTMLElement} root
 * @param {HTMLVideoElement} video
 */
export function leaveFullscreen(root, video) {
  const functions = fullscreenFunctions(root, video);
  if (functions.isActive()) functions.exit().catch(() => {});
}

/**
 * Sets up a full-screen button and the fading of the controls. In full screen the
 * root has the class `in-fullscreen`, and while the controls are hidden the class
 * `controls-hidden`.
 * @param {object} options
 * @param {HTMLElement} options.root contains the video and everything that stays visible in full screen
 * @param {HTMLVideoElement} options.video
 * @param {HTMLButtonElement} options.button is hidden where the browser has no full screen
 * @param {HTMLElement[]} options.controls their parts stay visible while one has the keyboard focus or the pointer
 */
export function bindFullscreen({root, video, button, controls}) {
  const functions = fullscreenFunctions(root, video);
  const isHeld = () => controls.some(element => element.querySelector(heldSelector()));
  const autoHide = new AutoHide(hidden => root.classList.toggle('controls-hidden', hidden), isHeld);
  button.hidden = !functions.supported;
  button.addEventListener('click', () => {
    // A browser can refuse, for example in a frame; the page then stays as it is.
    (functions.isActive() ? functions.exit() : functions.enter()).catch(() => {});
  });
  for (const event of ['pointermove', 'pointerdown', 'keydown', 'focusin']) root.addEventListener(event, () => autoHide.show());
  for (const event of ['fullscreenchange', 'webkitfullscreenchange']) {
    document.addEventListener(event, () => {
      button.setAttribute('aria-pressed', String(functions.isActive()));
      root.classList.toggle('in-fullscreen', functions.isActive());
      autoHide.setActive(functions.isActive());
    });
  }
}

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
