/**
 * Lists of cameras, microphones and screens, and the capture of their tracks.
 */

/** The list value for no device. */
export const NONE = 'none';
/** The list value for screen capture. */
export const SCREEN = 'screen';

/** @typedef {'audio'|'video'} Kind */

/** @type {Record<string, import('./status.js').Notice>} */
const captureErrors = {
  NotAllowedError: {tone: 'bad', title: 'Access to the camera was denied', hint: 'Allow camera and microphone for this page in the address bar, then press start again.'},
  NotFoundError: {tone: 'bad', title: 'No camera was found', hint: 'Plug one in, or choose another in the list, then press start again.'},
  NotReadableError: {tone: 'bad', title: 'The camera is in use by another program', hint: 'Close the other program, then press start again.'},
  OverconstrainedError: {tone: 'bad', title: 'This camera is no longer available', hint: 'Choose another in the list, then press start again.'},
};

/**
 * Returns the notice for an error of {@link capture}.
 * @param {unknown} error
 * @param {Kind} kind
 * @returns {import('./status.js').Notice}
 */
export function captureNotice(error, kind) {
  const name = error instanceof DOMException ? error.name : '';
  const notice = captureErrors[name] ?? {tone: 'bad', title: 'The camera did not start', hint: 'Choose another in the list, or press start again.'};
  return kind === 'video' ? notice : {...notice, title: notice.title.replace('camera', 'microphone')};
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
  const constraints = kind === 'video' ? {width: {ideal: 1280}, height: {ideal: 720}} : {};
  const device = choice ? {deviceId: {exact: choice}} : {};
  const stream = await navigator.mediaDevices.getUserMedia({[kind]: {...constraints, ...device}});
  return stream.getTracks()[0];
}

/** DeviceList is a select element that keeps its choice across device changes and reloads. */
export class DeviceList {
  #select;
  #kind;
  /** @type {string | undefined} the last choice that worked */
  #lastChoice;

  /**
   * @param {HTMLSelectElement} select
   * @param {Kind} kind
   */
  constructor(select, kind) {
    this.#select = select;
    this.#kind = kind;
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
    const label = video ? 'Camera' : 'Microphone';
    const known = devices.filter(device => device.deviceId !== '');
    const options = known.map((device, i) => new Option(device.label || `${label} ${i + 1}`, device.deviceId));
    if (options.length === 0) options.push(new Option(`Default ${label.toLowerCase()}`, ''));
    if (!video) options.push(new Option('No microphone', NONE));
    if (video && 'getDisplayMedia' in navigator.mediaDevices) options.push(new Option('This screen', SCREEN));
    return options;
  }
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
