/** The controls of the call page: they change the own picture and sound, and show their state. */

import {DeviceList, SpeakerList, canCaptureScreen} from './devices.js';
import {find} from './page.js';
import {LevelMeter, litBars} from './sound.js';

/**
 * @typedef {import('./devices.js').Kind} Kind
 * @typedef {import('./media.js').LocalMedia} LocalMedia
 */

const buttons = {
  video: find('#camera-button', HTMLButtonElement),
  audio: find('#microphone-button', HTMLButtonElement),
};
const lists = {
  video: find('#camera', HTMLSelectElement),
  audio: find('#microphone', HTMLSelectElement),
};
const switchButton = find('#switch-camera', HTMLButtonElement);
const shareButton = find('#share-screen', HTMLButtonElement);
const moreButton = find('#more', HTMLButtonElement);
const closeButton = find('#close-panel', HTMLButtonElement);
const panel = find('#panel', HTMLElement);
const self = find('.self', HTMLElement);
const selfVideo = find('#self', HTMLVideoElement);
const bars = [...buttons.audio.querySelectorAll('.level i')];
const KINDS = /** @type {Kind[]} */ (['video', 'audio']);

/** OwnControls are the controls of the own picture and sound, and the lists of the devices. */
export class OwnControls {
  #media;
  #onCancelled;
  #deviceLists = {video: new DeviceList(lists.video, 'video', {extras: false}), audio: new DeviceList(lists.audio, 'audio', {extras: false})};
  #speakers;
  #cameras = 0;
  #meter = new LevelMeter(level => {
    const lit = litBars(level, bars.length);
    bars.forEach((bar, i) => bar.classList.toggle('lit', i < lit));
  });

  /**
   * @param {LocalMedia} media
   * @param {HTMLVideoElement} picture plays the sound of the other side
   * @param {() => void} onCancelled called when the user shares no screen after all
   */
  constructor(media, picture, onCancelled) {
    this.#media = media;
    this.#onCancelled = onCancelled;
    this.#speakers = new SpeakerList(find('#speaker-field', HTMLElement), picture);
    for (const kind of KINDS) this.#bindSource(kind);
    switchButton.addEventListener('click', () => this.#switchCamera());
    shareButton.addEventListener('click', () => this.#toggleScreen());
    media.addEventListener('change', () => this.#update());
    document.addEventListener('click', () => this.#meter.resume());
    navigator.mediaDevices?.addEventListener('devicechange', () => this.fillLists());
    shareButton.hidden = !canCaptureScreen();
    this.#update();
  }

  /** Fills the lists. Labels are available after permission. */
  async fillLists() {
    const devices = await navigator.mediaDevices?.enumerateDevices() ?? [];
    for (const kind of KINDS) {
      const list = this.#deviceLists[kind];
      const source = this.#media.source(kind);
      list.fill(devices);
      lists[kind].disabled = !navigator.mediaDevices;
      source.choice = source.track ? list.select(source.track) : list.choice;
    }
    this.#speakers.fill(devices);
    this.#cameras = devices.filter(({kind}) => kind === 'videoinput').length;
    this.#update();
  }

  /** @param {Kind} kind */
  #bindSource(kind) {
    const source = this.#media.source(kind);
    buttons[kind].disabled = !navigator.mediaDevices;
    buttons[kind].addEventListener('click', async () => {
      if (source.wanted) return this.#media.turnOff(kind);
      await this.#media.turnOn(kind);
      await this.fillLists();
    });
    lists[kind].addEventListener('change', async () => {
      await this.#media.choose(kind, lists[kind].value);
      await this.fillLists();
    });
  }

  async #switchCamera() {
    await this.#media.switchCamera();
    lists.video.value = this.#media.camera.choice;
    await this.fillLists();
  }

  async #toggleScreen() {
    if (this.#media.sharing) return this.#media.stopScreen();
    if (!await this.#media.shareScreen()) this.#onCancelled();
  }

  #update() {
    const media = this.#media;
    for (const kind of KINDS) {
      const {wanted, notice} = media.source(kind);
      buttons[kind].setAttribute('aria-pressed', String(wanted));
      buttons[kind].toggleAttribute('data-trouble', notice !== null);
    }
    shareButton.setAttribute('aria-pressed', String(media.sharing));
    switchButton.hidden = this.#cameras < 2 || media.sharing || !media.camera.track;
    this.#meter.setTrack(media.microphone.track);
    this.#showSelf();
  }

  #showSelf() {
    const {picture, mirrored, sharing} = this.#media;
    const shown = selfVideo.srcObject instanceof MediaStream ? selfVideo.srcObject.getTracks()[0] : null;
    if (shown !== picture) selfVideo.srcObject = picture && new MediaStream([picture]);
    self.classList.toggle('has-track', picture !== null);
    self.classList.toggle('mirrored', mirrored);
    self.classList.toggle('screen', sharing);
  }
}

/**
 * Sets up the panel with devices and connection.
 * @param {(open: boolean) => void} onToggle
 */
export function bindPanel(onToggle) {
  /** @param {boolean} open */
  const set = open => {
    document.body.classList.toggle('panel-open', open);
    moreButton.setAttribute('aria-expanded', String(open));
    onToggle(open);
  };
  const close = () => {
    set(false);
    moreButton.focus();
  };
  moreButton.addEventListener('click', () => set(moreButton.getAttribute('aria-expanded') !== 'true'));
  closeButton.addEventListener('click', close);
  panel.addEventListener('keydown', event => event.key === 'Escape' && close());
  moreButton.addEventListener('keydown', event => event.key === 'Escape' && set(false));
  return {close: () => set(false)};
}
