/** What stands around the ends of a room: a server of arrays, and peers that only keep books. */

/** A server that holds what is sent to who is not there, as the real one does for a knock. */
export class Post {
  /** @type {Map<string, FakeInbox>} */
  readers = new Map();
  /** @type {{from: string, to: string, data: any}[]} */
  sent = [];
  /** @type {{to: string, go: () => void}[]} */
  #held = [];

  /** @param {string} from @param {string} to @param {any} data */
  async carry(from, to, data) {
    if (!this.readers.has(to)) await new Promise(resolve => this.#held.push({to, go: () => resolve(undefined)}));
    this.sent.push({from, to, data: structuredClone(data)});
    this.readers.get(to)?.dispatchEvent(new CustomEvent('message', {detail: {from, data: structuredClone(data)}}));
  }

  /** @param {FakeInbox} inbox */
  read(inbox) {
    this.readers.set(inbox.name, inbox);
    const due = this.#held.filter(({to}) => to === inbox.name);
    this.#held = this.#held.filter(({to}) => to !== inbox.name);
    for (const {go} of due) go();
  }

  /** @param {string} kind */
  count(kind) {
    return this.sent.filter(({data}) => data.kind === kind).length;
  }
}

export class FakeInbox extends EventTarget {
  status = 'idle';
  /** @type {{kind: string, status: number, code: string} | null} what the server does not carry */
  refuses = null;
  /** @param {Post} post @param {string} name */
  constructor(post, name) {
    super();
    this.post = post;
    this.name = name;
  }
  start() {
    this.status = 'open';
    this.post.read(this);
  }
  /** @param {string} status */
  become(status) {
    this.status = status;
    this.dispatchEvent(new CustomEvent('status', {detail: status}));
  }
  /** @param {string} to @param {any} data */
  async send(to, data) {
    if (this.refuses?.kind === data.kind) throw Object.assign(new Error('refused'), this.refuses);
    await this.post.carry(this.name, to, data);
  }
  /** @param {string} to @param {any} data */
  sendLast(to, data) { void this.send(to, data); }
}

export class FakePeer extends EventTarget {
  state = 'connecting';
  /** @type {any[]} */
  got = [];
  /** @type {Map<string, unknown>} */
  tracks = new Map();
  /** @param {any} options */
  constructor(options) {
    super();
    this.options = options;
    this.call = options.call;
  }
  /** @param {string} kind @param {unknown} track */
  async setTrack(kind, track) {
    if (this.tracks.size === 0) this.options.send({call: this.call, n: 1, description: {type: 'offer', sdp: ''}});
    this.tracks.set(kind, track);
  }
  /** @param {any} signal */
  async receive(signal) { this.got.push(signal); }
  /** @param {string} state */
  turn(state) {
    this.state = state;
    this.dispatchEvent(new CustomEvent('state', {detail: state}));
  }
  close() { this.turn('closed'); }
}
