/** Fakes for the tests of media.js and play.js: tracks, devices and video elements. */

/** FakeTrack is a MediaStreamTrack whose device the test controls. */
export class FakeTrack extends EventTarget {
  enabled = true;
  muted = false;
  readyState = 'live';
  /** @type {MediaTrackSettings} */
  settings;

  /** @param {'audio'|'video'} kind @param {MediaTrackSettings} [settings] */
  constructor(kind, settings = {}) {
    super();
    this.kind = kind;
    this.settings = settings;
  }

  getSettings() { return this.settings; }
  stop() { this.readyState = 'ended'; }

  /** @param {boolean} muted */
  setMuted(muted) {
    this.muted = muted;
    this.dispatchEvent(new Event(muted ? 'mute' : 'unmute'));
  }

  /** Ends the track as the device does. */
  end() {
    this.readyState = 'ended';
    this.dispatchEvent(new Event('ended'));
  }
}

export class FakeStream {
  /** @param {FakeTrack[]} tracks */
  constructor(tracks = []) { this.tracks = tracks; }
  getTracks() { return [...this.tracks]; }
  getVideoTracks() { return this.tracks.filter(({kind}) => kind === 'video'); }
  getAudioTracks() { return this.tracks.filter(({kind}) => kind === 'audio'); }
  /** @param {FakeTrack} track */
  addTrack(track) { this.tracks.push(track); }
  /** @param {FakeTrack} track */
  removeTrack(track) { this.tracks = this.tracks.filter(other => other !== track); }
}

/** FakeDevices answers each question of getUserMedia at once, unless `answer` is replaced. */
export class FakeDevices {
  /** @type {{audio?: any, video?: any}[]} the constraints of all questions */
  questions = [];
  /** @type {FakeTrack[]} */
  tracks = [];
  /** @type {{kind: string, deviceId: string}[]} */
  devices = [{kind: 'videoinput', deviceId: 'front'}, {kind: 'videoinput', deviceId: 'back'}, {kind: 'audioinput', deviceId: 'mic'}];
  /** @type {(constraints: any) => Promise<void>} rejects to refuse */
  answer = async () => {};
  /** The tracks of a shared screen. @type {FakeTrack[] | null} */
  screen = [new FakeTrack('video'), new FakeTrack('audio')];

  /** @param {any} constraints */
  async getUserMedia(constraints) {
    this.questions.push(constraints);
    await this.answer(constraints);
    const kinds = /** @type {('audio'|'video')[]} */ (['video', 'audio']).filter(kind => constraints[kind]);
    const tracks = kinds.map(kind => new FakeTrack(kind, settingsFor(constraints[kind])));
    this.tracks.push(...tracks);
    return new FakeStream(tracks);
  }

  async getDisplayMedia() {
    if (!this.screen) throw new DOMException('cancelled', 'NotAllowedError');
    return new FakeStream(this.screen);
  }

  async enumerateDevices() { return this.devices; }
}

/** @param {any} constraints */
function settingsFor({deviceId, facingMode}) {
  return {deviceId: deviceId?.exact ?? 'front', ...facingMode && {facingMode: facingMode.exact}};
}

/** @param {string} name of a DOMException */
export const refusal = name => new DOMException('refused', name);
