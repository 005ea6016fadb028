/**
 * The level of a microphone, so that a user sees that it works before anyone listens,
 * and the mix of several sounds.
 */

/** Milliseconds between two measurements. */
const INTERVAL = 100;
/** The level in decibels that counts as silence. Rooms are a little louder. */
const SILENCE = -55;
/** The level in decibels that fills the scale: a loud voice. */
const LOUD = -12;

/**
 * Returns the level of samples on a scale from 0 to 1.
 * @param {ArrayLike<number>} samples from -1 to 1
 */
export function levelOf(samples) {
  let sum = 0;
  for (let i = 0; i < samples.length; i++) sum += samples[i] * samples[i];
  if (sum === 0) return 0;
  const decibels = 10 * Math.log10(sum / samples.length);
  return Math.min(1, Math.max(0, (decibels - SILENCE) / (LOUD - SILENCE)));
}

/**
 * Returns the number of lit bars for a level.
 * @param {number} level
 * @param {number} bars
 */
export function litBars(level, bars) {
  return Math.ceil(level * bars - 0.05);
}

/**
 * Whether Web Audio can start now. Chromium logs a warning if a page tries before the
 * first gesture; Firefox says that a page with a microphone need not wait.
 */
function canMeasure() {
  if (typeof AudioContext !== 'function') return false;
  const policy = /** @type {any} */ (navigator).getAutoplayPolicy?.('audiocontext');
  return policy ? policy === 'allowed' : navigator.userActivation?.hasBeenActive ?? true;
}

/**
 * LevelMeter measures a track ten times a second. Some browsers measure nothing
 * before the first gesture; the callback is then not called.
 */
export class LevelMeter {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {MediaStreamTrack | null} */
  #track = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  #onLevel;

  /** @param {(level: number) => void} onLevel receives 0 as well when the measurement ends */
  constructor(onLevel) {
    this.#onLevel = onLevel;
  }

  /** @param {MediaStreamTrack | null} track */
  setTrack(track) {
    if (track === this.#track) return;
    this.#stop();
    this.#track = track;
    if (track && canMeasure()) this.#start(track);
  }

  /** Measures from now on, if the browser waited for a gesture. Call it from the handler of one. */
  resume() {
    if (this.#track && !this.#context && canMeasure()) this.#start(this.#track);
    if (this.#context?.state === 'suspended') void this.#context.resume();
  }

  /** @param {MediaStreamTrack} track */
  #start(track) {
    const context = this.#context = new AudioContext();
    const analyser = context.createAnalyser();
    const samples = new Float32Array(analyser.fftSize);
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    this.#timer = setInterval(() => {
      if (context.state !== 'running') return;
      analyser.getFloatTimeDomainData(samples);
      this.#onLevel(track.enabled ? levelOf(samples) : 0);
    }, INTERVAL);
  }

  #stop() {
    clearInterval(this.#timer);
    void this.#context?.close();
    this.#context = null;
    this.#onLevel(0);
  }
}

/**
 * SoundMixer mixes several sounds into one track, because a call has one audio track.
 * It has one output at a time.
 */
export class SoundMixer {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {MediaStreamTrack[]} */
  #tracks = [];
  /** @type {MediaStreamTrack | null} */
  #output = null;

  /**
   * Returns a track with the sound of the given tracks, the same one until they
   * change. A browser without Web Audio gets the first track.
   * @param {MediaStreamTrack[]} tracks at least one
   */
  mix(tracks) {
    if (this.#output && tracks.length === this.#tracks.length && tracks.every((track, i) => track === this.#tracks[i])) {
      return this.#output;
    }
    this.close();
    if (typeof AudioContext !== 'function') return tracks[0];
    const context = new AudioContext();
    const destination = context.createMediaStreamDestination();
    for (const track of tracks) context.createMediaStreamSource(new MediaStream([track])).connect(destination);
    void context.resume(); // a mix begins in the handler of a press
    this.#context = context;
    this.#tracks = tracks;
    return this.#output = destination.stream.getAudioTracks()[0];
  }

  /** Ends the output. */
  close() {
    void this.#context?.close();
    this.#output?.stop();
    this.#context = this.#output = null;
    this.#tracks = [];
  }
}
