/** The choice of the device that plays the sound, where the browser has one. */

import {strings} from './strings.js';

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
      new Option(label || strings.devices.numbered({name: strings.call.speaker, number: i + 1}), deviceId));
    if (!speakers.some(({deviceId}) => deviceId === 'default')) options.unshift(new Option(strings.call.defaultSpeaker, ''));
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
