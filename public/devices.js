/**
 * Cameras, microphones, speakers and screens: their lists, the capture of their tracks, and
 * the notices when a capture fails or waits for an answer.
 */

import * as strings from './strings.js';

const texts = strings.devices;

/** The list value for no device. */
export const NONE = 'none';
/** The list value for screen capture. */
export const SCREEN = 'screen';
/** Milliseconds a capture can take before the page points to the question of the browser. */
export const QUESTION_DELAY = 2_000;

/**
 * @typedef {'audio'|'video'} Kind
 * @typedef {import('./status.js').Notice} Notice
 */

/** @type {Record<string, Record<Kind, {title: string, hint: (parameters: {retry: string}) => string}>>} */
const captureErrors = {
  NotAllowedError: {
    video: {title: texts.cameraDenied, hint: texts.deniedHint},
    audio: {title: texts.microphoneDenied, hint: texts.deniedHint},
  },
  NotFoundError: {
    video: {title: texts.cameraNotFound, hint: texts.notFoundHint},
    audio: {title: texts.microphoneNotFound, hint: texts.notFoundHint},
  },
  NotReadableError: {
    video: {title: texts.cameraInUse, hint: texts.inUseHint},
    audio: {title: texts.microphoneInUse, hint: texts.inUseHint},
  },
  OverconstrainedError: {
    video: {title: texts.cameraGone, hint: texts.goneHint},
    audio: {title: texts.microphoneGone, hint: texts.goneHint},
  },
  AbortError: { // the name that Firefox has for a device in use
    video: {title: texts.cameraInUse, hint: texts.inUseHint},
    audio: {title: texts.microphoneInUse, hint: texts.inUseHint},
  },
};
const otherError = {
  video: {title: texts.cameraFailed, hint: texts.failedHint},
  audio: {title: texts.microphoneFailed, hint: texts.failedHint},
};

/**
 * Returns the notice for an error of {@link capture}.
 * @param {unknown} error
 * @param {Kind} kind
 * @param {string} [retry] what the user does next, as in “press start again”
 * @returns {Notice}
 */
export function captureNotice(error, kind, retry = texts.pressStartAgain) {
  const name = error instanceof DOMException ? error.name : '';
  const {title, hint} = (captureErrors[name] ?? otherError)[kind];
  return {tone: 'bad', title, hint: hint({retry})};
}

/**
 * Returns the notice for a track that the device ended: it was unplugged, its
 * permission was revoked, or another program took it over.
 * @param {Kind} kind
 * @param {string} [retry] as in captureNotice
 * @returns {Notice}
 */
export function endedNotice(kind, retry = texts.pressStartAgain) {
  return {tone: 'bad', title: kind === 'video' ? texts.cameraStopped : texts.microphoneStopped, hint: texts.failedHint({retry})};
}

/**
 * Returns the notice for a track that the system has muted: a call comes in, a
 * switch covers the camera, or another app is in front.
 * @param {Kind} kind
 * @returns {Notice}
 */
export function mutedNotice(kind) {
  return {tone: 'bad', title: kind === 'video' ? texts.cameraMuted : texts.microphoneMuted, hint: texts.mutedHint};
}

/**
 * Returns the notice for a capture that takes longer than QUESTION_DELAY.
 * @param {boolean} granted whether the permission was granted before, so that the browser asks nothing
 * @returns {Notice}
 */
export function questionNotice(granted) {
  if (granted) return {tone: 'busy', title: texts.starting, hint: texts.startingHint};
  return {tone: 'busy', title: texts.answerQuestion, hint: texts.answerQuestionHint};
}

/**
 * Returns why a page cannot capture at all, or null if it can. Browsers inside
 * other apps often have no mediaDevices.
 * @param {{mediaDevices?: MediaDevices, userAgent: string}} [browser]
 * @returns {Notice | null}
 */
export function missingNotice(browser = navigator) {
  if (browser.mediaDevices?.getUserMedia) return null;
  return {tone: 'bad', title: texts.missing, hint: texts.missingHint({browser: browserToUse(browser.userAgent)})};
}

/**
 * Returns the browser that can use the camera on this system.
 * @param {string} userAgent
 */
export function browserToUse(userAgent) {
  if (/iPhone|iPad|iPod/.test(userAgent)) return texts.browserOfApple;
  if (/Android/.test(userAgent)) return texts.browserOfAndroid;
  return texts.browserOfOthers;
}

/**
 * Returns the state of a permission, or 'unknown' where the browser does not tell.
 * @param {Kind} kind
 * @returns {Promise<PermissionState | 'unknown'>}
 */
export async function permissionState(kind) {
  const name = /** @type {PermissionName} */ (kind === 'video' ? 'camera' : 'microphone');
  try {
    return (await navigator.permissions.query({name})).state;
  } catch {
    return 'unknown';
  }
}

/**
 * Returns the constraints for a choice.
 * @param {Kind} kind
 * @param {string} choice a device id, '' for the default device
 * @returns {MediaTrackConstraints}
 */
export function constraintsFor(kind, choice) {
  const size = kind === 'video' ? {width: {ideal: 1280}, height: {ideal: 720}} : {};
  return choice ? {...size, deviceId: {exact: choice}} : size;
}

/**
 * Captures a track of the chosen device. Returns null for NONE, and rejects if
 * the device is not available.
 * @param {Kind} kind
 * @param {string} choice a device id, '' for the default device, NONE or SCREEN
 * @returns {Promise<MediaStreamTrack | null>}
 */
export async function capture(kind, choice) {
  if (choice === NONE) return null;
  if (choice === SCREEN) return (await navigator.mediaDevices.getDisplayMedia({video: true})).getVideoTracks()[0];
  const stream = await navigator.mediaDevices.getUserMedia({[kind]: constraintsFor(kind, choice)});
  return stream.getTracks()[0];
}

/**
 * PendingCapture runs captures, each of which can wait for the user's answer. A
 * browser cannot take a question back, so a later capture replaces an earlier one:
 * tracks that the earlier one still delivers are stopped. Event:
 * - waiting: `waiting` has changed
 */
export class PendingCapture extends EventTarget {
  /** Whether the current capture takes longer than QUESTION_DELAY. */
  waiting = false;
  #number = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * Runs a capture in place of the current one. Returns its tracks, or null if a
   * later capture has replaced it. Rejects as the capture does, unless replaced.
   * @param {() => Promise<(MediaStreamTrack | null)[]>} captureTracks
   * @returns {Promise<(MediaStreamTrack | null)[] | null>}
   */
  async run(captureTracks) {
    const number = this.#begin();
    try {
      const tracks = await captureTracks();
      if (number === this.#number) return tracks;
      for (const track of tracks) track?.stop();
    } catch (error) {
      if (number === this.#number) throw error;
    } finally {
      if (number === this.#number) this.cancel();
    }
    return null;
  }

  /** Drops the current capture. */
  cancel() {
    this.#number++;
    clearTimeout(this.#timer);
    this.#setWaiting(false);
  }

  #begin() {
    this.cancel();
    this.#timer = setTimeout(() => this.#setWaiting(true), QUESTION_DELAY);
    return this.#number;
  }

  /** @param {boolean} waiting */
  #setWaiting(waiting) {
    if (this.waiting === waiting) return;
    this.waiting = waiting;
    this.dispatchEvent(new CustomEvent('waiting', {detail: waiting}));
  }
}

/** DeviceList is a select element that keeps its choice across device changes and reloads. */
export class DeviceList {
  #select;
  #kind;
  #extras;
  /** @type {string | undefined} the last choice that worked */
  #lastChoice;

  /**
   * @param {HTMLSelectElement} select
   * @param {Kind} kind
   * @param {object} [options]
   * @param {boolean} [options.extras] whether NONE and SCREEN can be chosen; the default is true
   */
  constructor(select, kind, {extras = true} = {}) {
    this.#select = select;
    this.#kind = kind;
    this.#extras = extras;
    select.addEventListener('change', () => storeChoice(kind, select.value));
  }

  get choice() {
    return this.#select.value;
  }

  /**
   * Replaces the options and keeps the choice if its device still exists.
   * @param {MediaDeviceInfo[]} devices
   */
  fill(devices) {
    const wanted = storedChoice(this.#kind) ?? this.#select.value;
    const options = this.#options(devices.filter(device => device.kind === `${this.#kind}input`));
    this.#select.replaceChildren(...options);
    const known = options.some(option => option.value === wanted);
    this.#select.value = known ? wanted : options[0].value;
    this.#lastChoice ??= this.choice;
  }

  /** Restores the last choice that worked. */
  restore() {
    const lastChoice = this.#lastChoice ?? '';
    const known = [...this.#select.options].some(option => option.value === lastChoice);
    this.#select.value = known ? lastChoice : this.#select.options[0].value;
    storeChoice(this.#kind, this.choice);
  }

  /**
   * Selects the device that a track comes from, and returns the choice.
   * @param {MediaStreamTrack | null} track
   */
  select(track) {
    const id = track?.getSettings().deviceId;
    if (id && [...this.#select.options].some(option => option.value === id)) this.#select.value = id;
    this.#lastChoice = this.choice;
    return this.choice;
  }

  /**
   * Before the user grants permission, a browser lists at most one device of a
   * kind, without id or label.
   * @param {MediaDeviceInfo[]} devices
   */
  #options(devices) {
    const video = this.#kind === 'video';
    const name = video ? texts.camera : texts.microphone;
    const known = devices.filter(device => device.deviceId !== '');
    const options = known.map((device, i) => new Option(device.label || texts.numbered({name, number: i + 1}), device.deviceId));
    if (options.length === 0) options.push(new Option(video ? texts.defaultCamera : texts.defaultMicrophone, ''));
    if (this.#extras && !video) options.push(new Option(texts.noMicrophone, NONE));
    if (this.#extras && video && canCaptureScreen()) options.push(new Option(texts.thisScreen, SCREEN));
    return options;
  }
}

/** Whether the browser can capture a screen. Those of phones cannot. */
export function canCaptureScreen() {
  return typeof navigator.mediaDevices?.getDisplayMedia === 'function';
}

/**
 * Stores a choice across reloads. Browsers that block cookies throw on access
 * to storage; the choice is then lost on reload.
 * @param {Kind} kind
 * @param {string} choice
 */
function storeChoice(kind, choice) {
  try {
    sessionStorage.setItem(kind, choice);
  } catch {
    // storage is blocked
  }
}

/** @param {Kind} kind */
function storedChoice(kind) {
  try {
    return sessionStorage.getItem(kind);
  } catch {
    return null;
  }
}

/**
 * SpeakerList is a select element with the speakers that the browser lists, and a
 * button that opens the browser's own list. Firefox lists only what was chosen
 * there. Without either, the field is hidden.
 */
export class SpeakerList {
  #field;
  #select;
  #button;
  #video;

  /**
   * @param {HTMLElement} field contains a select and a button element
   * @param {HTMLVideoElement} video
   */
  constructor(field, video) {
    this.#field = field;
    this.#select = /** @type {HTMLSelectElement} */ (field.querySelector('select'));
    this.#button = /** @type {HTMLButtonElement} */ (field.querySelector('button'));
    this.#video = video;
    this.#select.addEventListener('change', () => this.#use(this.#select.value));
    this.#button.addEventListener('click', () => this.#openBrowserList());
    this.fill([]);
  }

  /** @param {MediaDeviceInfo[]} devices */
  fill(devices) {
    const speakers = speakersOf(devices);
    const {value} = this.#select;
    const options = speakers.map(({label, deviceId}, i) =>
      new Option(label || texts.numbered({name: texts.speaker, number: i + 1}), deviceId));
    if (!speakers.some(({deviceId}) => deviceId === 'default')) options.unshift(new Option(texts.defaultSpeaker, ''));
    this.#select.replaceChildren(...options);
    this.#select.value = options.some(option => option.value === value) ? value : options[0].value;
    this.#button.hidden = !canOpenBrowserList();
    this.#select.hidden = options.length < 2;
    this.#field.hidden = !('setSinkId' in this.#video) || this.#select.hidden && this.#button.hidden;
  }

  async #openBrowserList() {
    // The user cancelled, or the browser refuses.
    const device = await /** @type {any} */ (navigator.mediaDevices).selectAudioOutput().catch(() => null);
    if (!device) return;
    this.fill(await navigator.mediaDevices.enumerateDevices());
    this.#select.value = device.deviceId;
    await this.#use(device.deviceId);
  }

  /** @param {string} deviceId */
  async #use(deviceId) {
    // The speaker was unplugged meanwhile: the default one plays on.
    await this.#video.setSinkId(deviceId).catch(() => {});
  }
}

/**
 * Returns the speakers that a page can use; one without an id is only a sign that
 * there is one.
 * @param {Pick<MediaDeviceInfo, 'kind' | 'deviceId' | 'label'>[]} devices
 */
export function speakersOf(devices) {
  return devices.filter(({kind, deviceId}) => kind === 'audiooutput' && deviceId !== '');
}

function canOpenBrowserList() {
  return typeof (/** @type {any} */ (navigator.mediaDevices)?.selectAudioOutput) === 'function';
}
