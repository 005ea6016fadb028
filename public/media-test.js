/** The tests of the camera and the microphone on the self-test page. */

import {row} from './self-test.js';

/** Milliseconds after which an unanswered permission prompt is mentioned. */
const PROMPT_TIME = 2_000;
/** Milliseconds that a camera has to send its first picture. */
const PICTURE_TIME = 8_000;
/** Milliseconds without a sound after which the microphone is silent. */
const SILENCE = 6_000;
/** Milliseconds between measurements of the level. */
const LEVEL_INTERVAL = 60;
/** Level, between 0 and 1, from which something is heard. */
const HEARD = 0.08;
/** Number of bars of the level. */
const BARS = 17;

/**
 * @typedef {import('./self-test.js').Row} Row
 * @typedef {import('./self-test.js').Finding} Finding
 * @typedef {import('./self-test.js').RowState} RowState
 */

/** @type {Record<string, Finding>} by name of a DOMException of getUserMedia */
const errorFindings = {
  NotAllowedError: 'mediaDenied', SecurityError: 'mediaDenied', NotFoundError: 'mediaNotFound', OverconstrainedError: 'mediaNotFound',
  NotReadableError: 'mediaInUse', AbortError: 'mediaInUse',
};

/**
 * MediaTest tests one device. It dispatches an event `row` when its property has
 * changed. The device stays on until the user stops it.
 */
class MediaTest extends EventTarget {
  /** @type {Row} */
  row;
  /** Whether the device is on, or is asked for. */
  on = false;
  /** @type {MediaStream | null} */
  stream = null;
  /** Changes with each start and stop, so that a late answer to a prompt can be detected. */
  #generation = 0;
  #constraints;

  /**
   * @param {'camera'|'microphone'} check
   * @param {MediaStreamConstraints} constraints
   */
  constructor(check, constraints) {
    super();
    this.row = row(check, 'waiting', 'mediaIdle');
    this.#constraints = constraints;
  }

  /** Starts the device. The browser asks the user first. */
  async start() {
    const generation = ++this.#generation;
    this.on = true;
    this.set('running', 'running');
    const timer = setTimeout(() => this.set('running', 'mediaPrompt'), PROMPT_TIME);
    try {
      const stream = await capture(this.#constraints);
      if (generation !== this.#generation) return stopTracks(stream);
      this.stream = stream;
      stream.getTracks()[0]?.addEventListener('ended', () => this.#fail('mediaEnded'));
      clearTimeout(timer);
      await this.check(stream);
    } catch (error) {
      if (generation === this.#generation) this.#fail(findingFor(error));
    } finally {
      clearTimeout(timer);
    }
  }

  /** Turns the device off. The result of the test stays. */
  stop() {
    if (!this.on) return;
    this.#release();
    if (this.row.state === 'ok') this.set('ok', 'mediaStopped');
    else if (this.row.state === 'running') this.set('waiting', 'mediaIdle');
    else this.set(this.row.state, this.row.finding);
  }

  /** @param {Finding} finding */
  #fail(finding) {
    this.#release();
    this.set('failed', finding);
  }

  #release() {
    this.#generation++;
    this.on = false;
    if (this.stream) stopTracks(this.stream);
    this.stream = null;
    this.released();
  }

  /**
   * Checks what the device sends. The base class has nothing to check.
   * @param {MediaStream} _stream
   */
  async check(_stream) {}

  /** Runs when the device is off. */
  released() {}

  /**
   * @param {RowState} state
   * @param {Finding} finding
   */
  set(state, finding) {
    this.row = row(this.row.check, state, finding);
    this.dispatchEvent(new Event('row'));
  }
}

/** CameraTest shows the picture of the camera. */
export class CameraTest extends MediaTest {
  #video;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {HTMLVideoElement} video */
  constructor(video) {
    super('camera', {video: true});
    this.#video = video;
    video.addEventListener('timeupdate', () => {
      if (this.stream && video.videoWidth > 0 && this.row.state !== 'ok') this.#succeed();
    });
  }

  /** @param {MediaStream} stream */
  async check(stream) {
    this.set('running', 'cameraStarting');
    this.#timer = setTimeout(() => this.set('warning', 'cameraMuted'), PICTURE_TIME);
    this.#video.srcObject = stream;
    this.#video.parentElement?.classList.add('test-on');
    stream.getVideoTracks()[0]?.addEventListener('mute', () => this.stream === stream && this.set('warning', 'cameraMuted'));
    await this.#video.play().catch(() => {}); // stopped in the meantime
  }

  #succeed() {
    clearTimeout(this.#timer);
    this.set('ok', 'cameraOk');
  }

  released() {
    clearTimeout(this.#timer);
    this.#video.srcObject = null;
    this.#video.parentElement?.classList.remove('test-on');
  }
}

/** MicrophoneTest shows the level of the microphone. */
export class MicrophoneTest extends MediaTest {
  #bars;
  /** @type {AudioContext | null} */
  #audio = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /** @param {HTMLElement} element gets the bars of the level */
  constructor(element) {
    super('microphone', {audio: true});
    this.#bars = Array.from({length: BARS}, () => document.createElement('span'));
    element.replaceChildren(...this.#bars);
  }

  /** @param {MediaStream} stream */
  async check(stream) {
    const audio = new AudioContext();
    this.#audio = audio;
    const analyser = audio.createAnalyser();
    audio.createMediaStreamSource(stream).connect(analyser);
    this.set('running', 'microphoneListening');
    const samples = new Uint8Array(analyser.fftSize);
    const silentAt = Date.now() + SILENCE;
    this.#timer = setInterval(() => {
      analyser.getByteTimeDomainData(samples);
      this.#show(levelOf(samples), Date.now() > silentAt, audio.state === 'running');
    }, LEVEL_INTERVAL);
    await audio.resume();
  }

  /**
   * @param {number} level
   * @param {boolean} late whether a sound should have been heard
   * @param {boolean} measured false if the browser processes no audio: Firefox does not on a device without speakers
   */
  #show(level, late, measured) {
    const middle = (BARS - 1) / 2;
    this.#bars.forEach((bar, i) => bar.classList.toggle('lit', level > Math.abs(i - middle) / middle));
    if (level >= HEARD && this.row.state !== 'ok') this.set('ok', 'microphoneOk');
    else if (this.row.state === 'running' && late) this.set('warning', measured ? 'microphoneSilent' : 'microphoneUnmeasured');
  }

  released() {
    clearInterval(this.#timer);
    void this.#audio?.close();
    this.#audio = null;
    for (const bar of this.#bars) bar.classList.remove('lit');
  }
}

/** @param {MediaStreamConstraints} constraints */
function capture(constraints) {
  if (!navigator.mediaDevices) return Promise.reject(new TypeError('no media devices'));
  return navigator.mediaDevices.getUserMedia(constraints);
}

/**
 * Returns the finding for an error of getUserMedia.
 * @param {unknown} error
 * @returns {Finding}
 */
export function findingFor(error) {
  if (error instanceof TypeError) return 'mediaMissing';
  const {name} = /** @type {{name?: string}} */ (error ?? {});
  return Object.hasOwn(errorFindings, String(name)) ? errorFindings[String(name)] : 'mediaFailed';
}

/**
 * Returns the loudness of samples between 0 and 1, on a scale that shows speech well.
 * @param {Uint8Array} samples around 128
 */
export function levelOf(samples) {
  let sum = 0;
  for (const sample of samples) sum += (sample - 128) ** 2;
  return Math.min(1, Math.sqrt(sum / samples.length) / 128 * 5);
}

/** @param {MediaStream} stream */
function stopTracks(stream) {
  for (const track of stream.getTracks()) track.stop();
}
