/**
 * Cameras, microphones and screens: the lists to choose from, and their tracks.
 */

/** The values of choices that are no device. */
export const NONE = 'none';
export const SCREEN = 'screen';

/** @typedef {'audio'|'video'} Kind */

/** @type {Record<string, import('./status.js').Notice>} */
const captureErrors = {
  NotAllowedError: {tone: 'bad', title: 'The camera was refused', hint: 'Allow camera and microphone for this page in the address bar, then press start again.'},
  NotFoundError: {tone: 'bad', title: 'No camera was found', hint: 'Plug one in, or choose another in the list, then press start again.'},
  NotReadableError: {tone: 'bad', title: 'The camera is in use by another program', hint: 'Close the other program, then press start again.'},
  OverconstrainedError: {tone: 'bad', title: 'This camera is not there any more', hint: 'Choose another in the list, then press start again.'},
};

/**
 * @param {unknown} error
 * @param {Kind} kind
 * @returns {import('./status.js').Notice}
 */
export function refusal(error, kind) {
  const name = error instanceof DOMException ? error.name : '';
  const notice = captureErrors[name] ?? {tone: 'bad', title: 'The camera did not start', hint: 'Choose another in the list, or press start again.'};
  return kind === 'video' ? notice : {...notice, title: notice.title.replace('camera', 'microphone')};
}

/**
 * A track of the chosen device, or null for none. A device that was chosen
 * but has gone makes place for the default one.
 * @param {Kind} kind
 * @param {string} choice a device's id, '' for the default, NONE or SCREEN
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

/** A list to choose from, which keeps its choice while devices come and go, and over a reload. */
export class DeviceList {
  #select;
  #kind;
  /** @type {string | undefined} the last choice that came to something */
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

  /** @param {MediaDeviceInfo[]} devices */
  fill(devices) {
    const wanted = storedChoice(this.#kind) ?? this.#select.value;
    const options = this.#options(devices.filter(device => device.kind === `${this.#kind}input`));
    this.#select.replaceChildren(...options);
    const known = options.some(option => option.value === wanted);
    this.#select.value = known ? wanted : options[0].value;
    this.#lastChoice ??= this.choice;
  }

  /** Undoes a choice that came to nothing. */
  back() {
    const lastChoice = this.#lastChoice ?? '';
    const known = [...this.#select.options].some(option => option.value === lastChoice);
    this.#select.value = known ? lastChoice : this.#select.options[0].value;
    storeChoice(this.#kind, this.choice);
  }

  /**
   * Shows the device that a track turned out to come from, and returns the choice.
   * @param {MediaStreamTrack | null} track
   */
  settle(track) {
    const id = track?.getSettings().deviceId;
    if (id && [...this.#select.options].some(option => option.value === id)) this.#select.value = id;
    this.#lastChoice = this.choice;
    return this.choice;
  }

  /**
   * Before permission a browser shows at most one device, without id or label.
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
 * Browsers that keep no cookies refuse storage with an error; then a choice
 * lasts as long as the page.
 * @param {Kind} kind
 * @param {string} choice
 */
function storeChoice(kind, choice) {
  try {
    sessionStorage.setItem(kind, choice);
  } catch {
    // as said above
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
