/**
 * The picture and sound that this device sends: camera, microphone and a shared
 * screen. This module does not use the DOM.
 */

import {PendingCapture, captureNotice, constraintsFor, endedNotice, mutedNotice, questionNotice} from './devices.js';
import {SoundMixer} from './sound.js';
import * as strings from './strings.js';

/**
 * @typedef {import('./devices.js').Kind} Kind
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {'off'|'starting'|'on'|'interrupted'|'failed'} SourceState interrupted: the system has muted the track
 * @typedef {import('./session.js').Media} Media
 * @typedef {{track?: MediaStreamTrack, error?: unknown}} Outcome of a capture
 * @typedef {Pick<MediaDevices, 'getUserMedia' | 'getDisplayMedia' | 'enumerateDevices'>} Devices
 * @typedef {{mix: (tracks: MediaStreamTrack[]) => MediaStreamTrack | null, close: () => void}} Mixer
 */

/** The kinds in the order in which their notices are shown. @type {Kind[]} */
const KINDS = ['video', 'audio'];

/**
 * The tab's sound only: the sound of the whole system contains the voice of the
 * other side, which would hear itself. Sound is sent as it is, because the
 * processing for voices damages music.
 */
const SCREEN_OPTIONS = {
  video: true,
  audio: {echoCancellation: false, noiseSuppression: false, autoGainControl: false},
  systemAudio: 'exclude',
  selfBrowserSurface: 'exclude',
  surfaceSwitching: 'include',
};

/** Source is the camera or the microphone. LocalMedia changes it, pages read it. */
class Source {
  /** @type {SourceState} */
  state = 'off';
  /** @type {MediaStreamTrack | null} */
  track = null;
  /** Why the source is interrupted or failed. @type {Notice | null} */
  notice = null;
  /** Whether the source worked before it was interrupted or failed. */
  lost = false;
  /** A device id, '' for the default device. */
  choice = '';
  pending = new PendingCapture();

  /**
   * @param {Kind} kind
   * @param {() => void} onChange
   */
  constructor(kind, onChange) {
    this.kind = kind;
    this.onChange = onChange;
    this.pending.addEventListener('waiting', onChange);
  }

  get retry() {
    return this.kind === 'video' ? strings.devices.pressCamera : strings.devices.pressMicrophone;
  }

  /** Whether the user wants the source on, whether or not it works. */
  get wanted() {
    return this.state !== 'off' && this.state !== 'failed';
  }

  /**
   * Captures a new track in place of the present one, and reports whether that
   * succeeded. A later call replaces an earlier one that still waits.
   * @param {() => Promise<Outcome>} captureTrack
   */
  async turnOn(captureTrack) {
    this.release();
    this.#set('starting');
    const tracks = await this.pending.run(async () => {
      const {track, error} = await captureTrack();
      if (error) throw error;
      return [track ?? null];
    }).catch(error => this.#set('failed', captureNotice(error, this.kind, this.retry)));
    if (!tracks?.[0]) return false;
    this.#adopt(tracks[0]);
    return true;
  }

  /** Turns the source off and releases its device. */
  turnOff() {
    this.pending.cancel();
    this.release();
    this.#set('off');
  }

  /** Turns a track off or on without releasing its device. @param {boolean} enabled */
  setEnabled(enabled) {
    if (!this.track) return;
    this.track.enabled = enabled;
    this.#update();
  }

  release() {
    this.track?.stop(); // a stopped track does not dispatch ended
    this.track = null;
  }

  /** @param {MediaStreamTrack} track */
  #adopt(track) {
    this.track = track;
    for (const event of ['mute', 'unmute', 'ended']) {
      track.addEventListener(event, () => this.track === track && this.#update());
    }
    this.#update();
  }

  /** Derives the state from the track. */
  #update() {
    const {track} = this;
    if (!track) return;
    if (track.readyState === 'ended') {
      this.track = null;
      return this.#set('failed', endedNotice(this.kind, this.retry), true);
    }
    if (!track.enabled) return this.#set('off');
    if (track.muted) return this.#set('interrupted', mutedNotice(this.kind), true);
    this.#set('on');
  }

  /**
   * @param {SourceState} state
   * @param {Notice | null} [notice]
   * @param {boolean} [lost]
   */
  #set(state, notice = null, lost = false) {
    this.state = state;
    this.notice = notice;
    this.lost = lost;
    this.onChange();
  }
}

/**
 * LocalMedia holds what this device sends. Events:
 * - change: a property or the state of a source has changed
 * - track: the {kind, track} to send has changed; track is null to send nothing
 */
export class LocalMedia extends EventTarget {
  /** @type {Record<Kind, MediaStreamTrack | null>} the tracks of the last track events */
  #sent = {video: null, audio: null};
  /** @type {{video: MediaStreamTrack, sound: MediaStreamTrack | null} | null} */
  #screen = null;
  /** Counts the starts and stops of screen sharing, so that an outdated answer is dropped. */
  #screenNumber = 0;
  /** Whether the browser asks no question, because the permission was granted. */
  granted = false;
  #devices;
  #mixer;
  #permissionState;

  /**
   * @param {object} options
   * @param {Devices | undefined} options.devices undefined where the browser has none; then nothing is captured
   * @param {(kind: Kind) => Promise<string>} options.permissionState
   * @param {Mixer} [options.mixer] for tests
   */
  constructor({devices, permissionState, mixer = new SoundMixer()}) {
    super();
    this.#devices = devices;
    this.#permissionState = permissionState;
    this.#mixer = mixer;
    const onChange = () => this.#onChange();
    this.camera = new Source('video', onChange);
    this.microphone = new Source('audio', onChange);
  }

  /** @param {Kind} kind */
  source(kind) {
    return kind === 'video' ? this.camera : this.microphone;
  }

  get sharing() {
    return this.#screen !== null;
  }

  /** The track for the own picture: the shared screen, else the camera. */
  get picture() {
    return this.#screen?.video ?? this.camera.track;
  }

  /** Whether the own picture is shown as in a mirror: only a camera that faces the user. */
  get mirrored() {
    return !this.#screen && this.camera.track?.getSettings().facingMode !== 'environment';
  }

  /** What the other side is told about the tracks. @returns {Media} */
  get summary() {
    return {video: this.#screen ? 'screen' : summaryOf(this.camera), audio: summaryOf(this.microphone)};
  }

  /**
   * What the user has to answer, or why a source does not work. It is urgent if the
   * user waits for it or a source has stopped.
   * @type {{notice: Notice, urgent: boolean} | null}
   */
  get problem() {
    if (KINDS.some(kind => this.source(kind).pending.waiting)) return {notice: questionNotice(this.granted), urgent: true};
    const sources = KINDS.map(kind => this.source(kind));
    const {notice, lost} = sources.find(source => source.lost) ?? sources.find(source => source.notice) ?? {};
    return notice ? {notice, urgent: lost === true} : null;
  }

  /** Turns camera and microphone on with one question of the browser. */
  async start() {
    if (!this.#devices) return;
    const kinds = KINDS.filter(kind => !this.source(kind).wanted);
    if (kinds.length < 2) return void await Promise.all(kinds.map(kind => this.turnOn(kind)));
    const outcomes = this.#captureBoth();
    await Promise.all(kinds.map(kind => this.source(kind).turnOn(async () => (await outcomes)[kind])));
  }

  /**
   * Captures the chosen device of a kind, and reports whether that succeeded.
   * @param {Kind} kind
   */
  async turnOn(kind) {
    const source = this.source(kind);
    if (source.track) source.setEnabled(true);
    if (source.track || !this.#devices) return source.track !== null;
    return source.turnOn(() => this.#captureOne(kind));
  }

  /**
   * The microphone keeps its device, so that it is on again at once. The camera
   * releases it, so that its light goes out.
   * @param {Kind} kind
   */
  turnOff(kind) {
    const source = this.source(kind);
    if (kind === 'audio' && source.track) source.setEnabled(false);
    else source.turnOff();
  }

  /**
   * Uses another device from now on. The present one is released first, because
   * some devices cannot be opened twice.
   * @param {Kind} kind
   * @param {string} choice
   */
  async choose(kind, choice) {
    const source = this.source(kind);
    source.choice = choice;
    if (source.state === 'off') return source.release();
    await source.turnOn(() => this.#captureOne(kind));
  }

  /** Changes between front and back camera, or to the next camera of the list. */
  async switchCamera() {
    if (!this.#devices || !this.camera.track) return;
    const devices = await this.#devices.enumerateDevices();
    const next = nextCamera(this.camera.track.getSettings(), devices);
    if (!next) return;
    const switched = await this.camera.turnOn(() => this.#capture('video', {...constraintsFor('video', ''), ...next}));
    if (!switched && this.camera.state === 'failed') await this.turnOn('video'); // back to the previous one
    else this.camera.choice = this.camera.track?.getSettings().deviceId ?? '';
  }

  /** Shares a screen in place of the camera, with the sound of a tab. Returns false if the user cancels. */
  async shareScreen() {
    const number = ++this.#screenNumber;
    // The standard has options that TypeScript does not know yet.
    const options = /** @type {DisplayMediaStreamOptions} */ (SCREEN_OPTIONS);
    const stream = await this.#devices?.getDisplayMedia(options).catch(() => null);
    if (!stream) return false;
    if (number !== this.#screenNumber) return void stream.getTracks().forEach(track => track.stop());
    const [video] = stream.getVideoTracks();
    const sound = stream.getAudioTracks()[0] ?? null;
    video.addEventListener('ended', () => this.#screen?.video === video && this.stopScreen()); // the browser's own bar
    sound?.addEventListener('ended', () => this.#onSoundEnded(sound));
    this.#screen = {video, sound};
    this.#onChange();
    return true;
  }

  stopScreen() {
    this.#screenNumber++;
    const screen = this.#screen;
    this.#screen = null;
    this.#onChange();
    screen?.video.stop();
    screen?.sound?.stop();
  }

  /** Turns everything off, when the call ends. */
  stop() {
    this.stopScreen();
    for (const kind of KINDS) this.source(kind).turnOff();
  }

  /** @param {MediaStreamTrack} sound */
  #onSoundEnded(sound) {
    if (this.#screen?.sound !== sound) return;
    this.#screen.sound = null;
    this.#onChange();
  }

  /** Dispatches the events for what has changed. */
  #onChange() {
    this.#send('video', this.picture);
    this.#send('audio', this.#outgoingSound());
    this.dispatchEvent(new CustomEvent('change'));
  }

  /** Returns the microphone, mixed with the sound of the shared tab if there is one. */
  #outgoingSound() {
    const tracks = [this.microphone.track, this.#screen?.sound ?? null].filter(track => track !== null);
    if (tracks.length < 2) this.#mixer.close();
    return tracks.length < 2 ? tracks[0] ?? null : this.#mixer.mix(tracks);
  }

  /**
   * @param {Kind} kind
   * @param {MediaStreamTrack | null} track
   */
  #send(kind, track) {
    if (this.#sent[kind] === track) return;
    this.#sent[kind] = track;
    this.dispatchEvent(new CustomEvent('track', {detail: {kind, track}}));
  }

  /** @param {Kind} kind */
  #captureOne(kind) {
    return this.#capture(kind, constraintsFor(kind, this.source(kind).choice));
  }

  /**
   * @param {Kind} kind
   * @param {MediaTrackConstraints} constraints
   * @returns {Promise<Outcome>}
   */
  async #capture(kind, constraints) {
    try {
      const stream = await this.#devices?.getUserMedia({[kind]: constraints});
      return {track: stream?.getTracks()[0]};
    } catch (error) {
      return {error};
    }
  }

  /**
   * Asks for both at once. If the browser or a device refuses one, the other is
   * still captured. After a denial, only a kind that is granted is tried again,
   * because a second question would annoy.
   * @returns {Promise<Record<Kind, Outcome>>}
   */
  async #captureBoth() {
    const constraints = {video: constraintsFor('video', this.camera.choice), audio: constraintsFor('audio', this.microphone.choice)};
    try {
      const stream = await /** @type {Devices} */ (this.#devices).getUserMedia(constraints);
      return {video: {track: stream.getVideoTracks()[0]}, audio: {track: stream.getAudioTracks()[0]}};
    } catch (error) {
      const [video, audio] = await Promise.all(KINDS.map(kind => this.#captureAfter(error, kind)));
      return {video, audio};
    }
  }

  /**
   * @param {unknown} error
   * @param {Kind} kind
   * @returns {Promise<Outcome>}
   */
  async #captureAfter(error, kind) {
    const denied = /** @type {Error} */ (error).name === 'NotAllowedError';
    return denied && await this.#permissionState(kind) !== 'granted' ? {error} : this.#captureOne(kind);
  }
}

/** @param {Source} source */
function summaryOf({state, lost}) {
  if (state === 'failed' && lost) return 'ended';
  return state === 'on' || state === 'interrupted' ? state : 'off';
}

/**
 * Returns the constraints of the camera that follows the present one: the other
 * side of a phone, else the next of the list. Returns null if there is no other.
 * @param {MediaTrackSettings} settings of the present camera
 * @param {Pick<MediaDeviceInfo, 'kind' | 'deviceId'>[]} devices
 * @returns {MediaTrackConstraints | null}
 */
export function nextCamera({facingMode, deviceId}, devices) {
  const ids = devices.filter(({kind}) => kind === 'videoinput').map(device => device.deviceId);
  if (ids.length < 2) return null;
  if (facingMode === 'user' || facingMode === 'environment') {
    return {facingMode: {exact: facingMode === 'user' ? 'environment' : 'user'}};
  }
  return {deviceId: {exact: ids[(ids.indexOf(deviceId ?? '') + 1) % ids.length]}};
}
