/**
 * Plays the remote picture and sound in a video element. A browser can refuse
 * sound before the first gesture, and the picture too while it saves power; a
 * press of the user then starts what was refused.
 */

import * as strings from './strings.js';

/** @typedef {'picture'|'sound'|null} Blocked what the browser refused, if anything */

/**
 * Playback owns the srcObject, the muted property and the class `has-picture` of
 * its element. The class is set from the first frame on, for a transition of the
 * style sheet. Event:
 * - change: `blocked` or `sound` has changed
 */
export class Playback extends EventTarget {
  /** @type {Blocked} */
  #blocked = null;
  /** The choice of the user; sound can be refused all the same. */
  #wanted;
  /** @type {MediaStream | null} */
  #stream = null;
  #video;
  #newStream;

  /**
   * @param {HTMLVideoElement} video
   * @param {object} [options]
   * @param {boolean} [options.sound] whether the sound is on where the browser permits it; the default is true
   * @param {() => MediaStream} [options.newStream] for tests
   */
  constructor(video, {sound = true, newStream = () => new MediaStream()} = {}) {
    super();
    this.#video = video;
    this.#wanted = sound;
    this.#newStream = newStream;
    video.muted = !sound;
    for (const event of ['loadeddata', 'resize']) video.addEventListener(event, () => this.#onFrame());
  }

  get blocked() {
    return this.#blocked;
  }

  /** Whether the sound is audible. */
  get sound() {
    return !this.#video.muted;
  }

  /**
   * Shows a track in place of the previous one of its kind. The tracks of a call
   * arrive separately.
   * @param {MediaStreamTrack} track
   */
  async show(track) {
    const stream = this.#stream ??= this.#newStream();
    for (const old of stream.getTracks()) {
      if (old.kind === track.kind) stream.removeTrack(old);
    }
    stream.addTrack(track);
    this.#video.srcObject = stream;
    await this.#play();
  }

  /** Removes the picture and the sound, when a call ends. */
  clear() {
    this.#stream = null;
    this.#video.srcObject = null;
    this.#video.classList.remove('has-picture');
    this.#setBlocked(null);
  }

  /** Starts what the browser refused. Call it from the handler of a gesture. */
  press() {
    return this.setSound(true);
  }

  /**
   * Turns the sound on or off. Browsers permit on only in the handler of a gesture.
   * @param {boolean} on
   */
  async setSound(on) {
    this.#wanted = on;
    this.#video.muted = !on;
    this.dispatchEvent(new CustomEvent('change'));
    if (this.#stream) await this.#play();
  }

  /** Plays with sound if it is wanted, else without; notes what the browser refuses. */
  async #play() {
    if (this.#wanted) this.#video.muted = false;
    if (await this.#tryPlay()) return this.#setBlocked(null);
    if (!this.#stream) return;
    this.#video.muted = true;
    const muted = await this.#tryPlay();
    if (this.#stream) this.#setBlocked(muted ? this.#wanted ? 'sound' : null : 'picture');
  }

  /** Returns false if the browser refuses to play, and true for any other outcome. */
  async #tryPlay() {
    try {
      await this.#video.play();
    } catch (error) {
      return /** @type {Error} */ (error).name !== 'NotAllowedError'; // AbortError: the next track interrupted it
    }
    return true;
  }

  #onFrame() {
    if (this.#video.videoWidth > 0) this.#video.classList.add('has-picture');
  }

  /** @param {Blocked} blocked */
  #setBlocked(blocked) {
    this.#blocked = blocked;
    this.dispatchEvent(new CustomEvent('change'));
  }
}

/**
 * Shows a button over the picture while the browser refuses to play it, or to play
 * its sound.
 * @param {Playback} playback
 * @param {HTMLButtonElement} button covers the picture, and has an element .press-text
 */
export function bindPress(playback, button) {
  const update = () => {
    button.hidden = playback.blocked === null;
    const text = playback.blocked === 'picture' ? strings.common.pressForPicture : strings.common.pressForSound;
    const element = button.querySelector('.press-text');
    if (element) element.textContent = text;
  };
  button.addEventListener('click', () => playback.press());
  playback.addEventListener('change', update);
  update();
}
