/**
 * The camera page. The user chooses the devices and starts the call.
 */

import {DeviceList, NONE, PendingCapture, QUESTION_DELAY, SCREEN, capture, captureNotice, endedNotice, missingNotice, mutedNotice,
  permissionState, questionNotice} from './devices.js';
import {isolate} from './dom.js';
import {WakeLock, bindInvitation, bindStatus, find, isRefused, joinRoom} from './page.js';
import {SendingEndpoint} from './session.js';
import * as strings from './strings.js';

/**
 * @typedef {import('./status.js').Notice} Notice
 * @typedef {import('./devices.js').Kind} Kind
 * @typedef {import('./session.js').MediaState} MediaState
 * @typedef {'done'|'failed'|'replaced'} CaptureResult replaced: by a later choice of the user
 */

const texts = strings.send;
/** @type {Kind[]} */
const kinds = ['video', 'audio'];

const preview = find('#preview', HTMLVideoElement);
const startButton = find('#start', HTMLButtonElement);
const stopButton = find('#stop', HTMLButtonElement);
const selects = {video: find('#camera', HTMLSelectElement), audio: find('#microphone', HTMLSelectElement)};

/** Source is the camera or the microphone: its list, its track, and what is wrong with it. */
class Source {
  /** @type {MediaStreamTrack | null} */
  track = null;
  /** Why there is no track, or none that sends. @type {Notice | null} */
  problem = null;
  /** Whether the device has ended the last track. */
  ended = false;
  pending = new PendingCapture();
  list;
  /** The choice that the track was captured for. @type {string | undefined} */
  #captured;
  #kind;
  #onChange;

  /**
   * @param {Kind} kind
   * @param {(source: Source) => void} onChange runs when the track begins or ends, or its state changes
   */
  constructor(kind, onChange) {
    this.#kind = kind;
    this.#onChange = onChange;
    this.list = new DeviceList(selects[kind], kind);
  }

  /** What the other side is told. @returns {MediaState} */
  get media() {
    if (!this.track) return this.ended ? 'ended' : 'off';
    if (this.track.muted) return 'interrupted';
    return this.#captured === SCREEN ? 'screen' : 'on';
  }

  get sharesScreen() {
    return this.#captured === SCREEN;
  }

  /**
   * Captures the chosen device, in place of a capture that waits for an answer.
   * @returns {Promise<CaptureResult>}
   */
  async capture() {
    const {choice} = this.list;
    const unchanged = choice === this.#captured && (choice === NONE || this.track?.readyState === 'live');
    if (unchanged && !this.problem) return 'done';
    if (choice !== SCREEN) this.stop(); // before the capture, because some cameras cannot be opened twice
    try {
      const tracks = await this.pending.run(async () => [await capture(this.#kind, choice)]);
      if (!tracks) return 'replaced';
      this.#use(tracks[0]);
    } catch (error) {
      if (choice === SCREEN) throw error;
      this.problem = captureNotice(error, this.#kind);
    }
    await this.fillList(); // labels are available after permission
    this.#captured = this.list.select(this.track);
    this.#onChange(this);
    return this.problem ? 'failed' : 'done';
  }

  /** @param {MediaStreamTrack | null} track */
  #use(track) {
    this.stop();
    this.track = track;
    track?.addEventListener('ended', () => track === this.track && this.#onEnded());
    for (const event of ['mute', 'unmute']) track?.addEventListener(event, () => track === this.track && this.#onMute());
    if (track?.muted) this.problem = mutedNotice(this.#kind);
  }

  /** The device was unplugged, its permission revoked, or another program took it over. */
  #onEnded() {
    const screen = this.sharesScreen;
    this.stop();
    this.ended = true;
    this.problem = screen ? {tone: 'calm', ...texts.screenStopped} : endedNotice(this.#kind);
    this.#onChange(this);
  }

  #onMute() {
    this.problem = this.track?.muted ? mutedNotice(this.#kind) : null;
    this.#onChange(this);
  }

  stop() {
    this.pending.cancel();
    this.track?.stop();
    this.track = null;
    this.problem = null;
    this.ended = false;
    this.#captured = undefined;
  }

  async fillList() {
    this.list.fill(await navigator.mediaDevices.enumerateDevices());
  }
}

/** SendPage connects the endpoint, the sources and the elements of the page. */
class SendPage {
  /** Whether the user has pressed start and the call waits for the camera. */
  #starting = false;
  /** Replaces the hint of the notice until the next capture, '' for none. */
  #hint = '';
  /** The camera's permission at the last capture. @type {PermissionState | 'unknown'} */
  #permission = 'unknown';
  #wakeLock = new WakeLock();
  #sources = {
    video: new Source('video', source => this.#onSource('video', source)),
    audio: new Source('audio', source => this.#onSource('audio', source)),
  };
  #endpoint;
  #refresh;

  /** @param {import('./page.js').Context} context */
  constructor(context) {
    this.#endpoint = new SendingEndpoint(context);
    this.#refresh = bindStatus(context, this.#endpoint, () => this.#notice);
    void bindInvitation(context, this.#endpoint, {page: 'send', other: 'receive'});
    this.#bindEvents();
  }

  #bindEvents() {
    const endpoint = this.#endpoint;
    endpoint.addEventListener('state', () => this.#wakeLock.set(endpoint.state === 'connected'));
    const leave = () => isRefused(endpoint) && this.#stop();
    endpoint.addEventListener('state', leave);
    endpoint.inbox.addEventListener('status', leave);
    endpoint.inbox.addEventListener('superseded', () => this.#stop());
    endpoint.addEventListener('error', () => endpoint.error?.kind === 'signal' && this.#stop());
    startButton.addEventListener('click', () => this.#start());
    stopButton.addEventListener('click', () => this.#stop());
    find('#take-over', HTMLButtonElement).addEventListener('click', () => endpoint.open());
    for (const kind of kinds) {
      selects[kind].addEventListener('change', () => this.#onChoice(kind));
      this.#sources[kind].pending.addEventListener('waiting', () => this.#refresh());
    }
  }

  async open() {
    const missing = missingNotice();
    find('.controls', HTMLElement).hidden = missing !== null;
    if (missing) bindCopyButton();
    else await this.#watchDevices();
    this.#refresh();
    this.#endpoint.open();
  }

  async #watchDevices() {
    const fill = () => Promise.all(kinds.map(kind => this.#sources[kind].fillList()));
    navigator.mediaDevices.addEventListener('devicechange', fill);
    await fill();
  }

  /** The notice without errors of the server. @returns {Notice} */
  get #notice() {
    const {video, audio} = this.#sources;
    const missing = missingNotice();
    if (missing) return missing;
    if (video.pending.waiting || audio.pending.waiting) return questionNotice(this.#permission === 'granted');
    if (video.problem) return video.problem;
    const notice = this.#callNotice;
    if (this.#hint) return {...notice, hint: this.#hint};
    return audio.problem ? {...notice, hint: texts.withoutSound({reason: lowerFirst(audio.problem.title)})} : notice;
  }

  /** @returns {Notice} */
  get #callNotice() {
    const {state, live, remote: {device}} = this.#endpoint;
    if (state === 'connected') return {tone: 'good', title: texts.connected.title, hint: texts.connected.hint({device: isolate(device)})};
    if (live) return {tone: 'busy', ...texts[state === 'present' ? 'connecting' : state]};
    return {tone: 'calm', ...state === 'waiting' ? texts.ready : texts.otherWaits};
  }

  #start() {
    this.#starting = true;
    this.#endpoint.setError(null);
    if (this.#superseded) this.#endpoint.open(); // pressing start selects this page
    this.#update();
    return this.#continueStart();
  }

  get #superseded() {
    return this.#endpoint.inbox.status === 'superseded';
  }

  /**
   * Starts the call when there is a camera. A question about the microphone that
   * stays unanswered does not hold it up.
   */
  async #continueStart() {
    const result = await this.#capture('video');
    if (!this.#starting || result === 'replaced') return;
    if (result === 'done') {
      await this.#endpoint.setTrack('audio', null); // a microphone that comes later needs no negotiation
      await Promise.race([this.#capture('audio'), new Promise(resolve => setTimeout(resolve, QUESTION_DELAY))]);
      this.#update();
      if (this.#starting) this.#endpoint.start();
    }
    this.#starting = false;
    this.#update();
  }

  /** Ends the call, and captures that wait for an answer. */
  #stop() {
    this.#starting = false;
    this.#endpoint.stop();
    for (const kind of kinds) {
      this.#sources[kind].stop();
      void this.#endpoint.setTrack(kind, null);
    }
    this.#hint = '';
    this.#update();
  }

  /**
   * Applies a new choice immediately. Before start, only the preview shows it.
   * @param {Kind} kind
   */
  async #onChoice(kind) {
    if (kind === 'audio' && !this.#endpoint.live && !this.#starting) return;
    const result = await this.#capture(kind);
    if (this.#starting && kind === 'video' && result !== 'replaced') await this.#continueStart();
    this.#update();
  }

  /**
   * @param {Kind} kind
   * @returns {Promise<CaptureResult>}
   */
  async #capture(kind) {
    this.#hint = '';
    void permissionState(kind).then(state => (this.#permission = state));
    try {
      return await this.#sources[kind].capture();
    } catch {
      this.#sources[kind].list.restore(); // usually, the user has cancelled the choice of a screen
      this.#hint = texts.screenCancelled;
      this.#refresh();
      return 'failed';
    }
  }

  /**
   * @param {Kind} kind
   * @param {Source} source
   */
  #onSource(kind, source) {
    void this.#endpoint.setTrack(kind, source.track);
    this.#endpoint.setMedia({[kind]: source.media}); // before the call ends
    if (kind === 'video' && source.ended) this.#endpoint.stop();
    this.#update();
  }

  #update() {
    const {video, audio} = this.#sources;
    const active = this.#endpoint.live || this.#starting;
    const hadFocus = document.activeElement === startButton || document.activeElement === stopButton;
    startButton.hidden = active;
    stopButton.hidden = !active;
    stopButton.textContent = this.#starting ? texts.cancel : texts.stop;
    if (hadFocus) (active ? stopButton : startButton).focus(); // hiding a button removes its focus
    this.#endpoint.setMedia({video: video.media, audio: audio.media});
    document.body.classList.toggle('live', this.#endpoint.live);
    document.body.classList.toggle('previewing', video.track !== null);
    const stream = /** @type {MediaStream | null} */ (preview.srcObject);
    if (stream?.getTracks()[0] !== video.track) preview.srcObject = video.track && new MediaStream([video.track]);
    this.#refresh();
  }
}

/** Offers the link of this page to a user who must open it in another browser. */
function bindCopyButton() {
  const copyButton = find('#copy-page', HTMLButtonElement);
  copyButton.hidden = false;
  copyButton.addEventListener('click', async () => {
    const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    copyButton.textContent = copied ? texts.copied : texts.copyFailed;
  });
}

/** @param {string} text */
function lowerFirst(text) {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

const context = await joinRoom('send');
if (context) await new SendPage(context).open();
