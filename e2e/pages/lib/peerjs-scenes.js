/**
 * What the clients of PeerJS do with a server. Each scene runs in a page that has loaded the
 * library, and returns nothing or an object for the test.
 */

/**
 * @typedef {{host: string, port: number, path: string, secure: boolean}} Address
 * @typedef {{peers: Address, stalling: Address, stall: string}} Places of the server: its address,
 *   that of a proxy in front of it, and the URL that stalls the connections of the proxy
 */

/** Runs in the page: defines what the scenes use. */
export function defineHelpers() {
  const win = /** @type {any} */ (window);
  const timeout = 60_000;

  /**
   * Resolves at an event, and rejects at an error or after a time.
   * @param {any} emitter
   * @param {string} event
   */
  win.until = (emitter, event) => new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no ${event} in time`)), timeout);
    const end = (/** @type {() => void} */ settle) => {
      clearTimeout(timer);
      settle();
    };
    emitter.on(event, (/** @type {any} */ value) => end(() => resolve(value)));
    if (event !== 'error') emitter.on('error', (/** @type {any} */ error) => end(() => reject(error)));
  });

  /** Returns a peer that is open. @param {string | undefined} id @param {object} options */
  win.open = async (id, options) => {
    const peer = win.create(id, options);
    await win.until(peer, 'open');
    return peer;
  };

  win.create = (/** @type {string | undefined} */ id, /** @type {object} */ options) =>
    id ? new win.peerjs.Peer(id, {config: {iceServers: []}, ...options}) : new win.peerjs.Peer({config: {iceServers: []}, ...options});

  win.unique = () => `p-${Math.random().toString(36).slice(2)}x`;

  /** Echoes what arrives on all connections of a peer. @param {any} peer */
  win.echo = peer => peer.on('connection', (/** @type {any} */ connection) =>
    connection.on('data', (/** @type {any} */ data) => connection.send(data)));

  /** Returns what comes back for a message. @param {any} connection @param {any} message */
  win.ask = async (connection, message) => {
    if (!connection.open) await win.until(connection, 'open');
    const answer = win.until(connection, 'data');
    connection.send(message);
    return answer;
  };
}

/** @type {Record<string, (places: Places) => Promise<any>>} */
export const scenes = {
  /** An id of the server, JSON and 1 MiB both ways. */
  async pair({peers}) {
    const {open, echo, ask} = /** @type {any} */ (window);
    const [alice, bob] = await Promise.all([open(undefined, peers), open(undefined, peers)]);
    echo(bob);
    const json = await ask(alice.connect(bob.id, {serialization: 'json'}), {hello: ['world', 1]});
    if (JSON.stringify(json) !== '{"hello":["world",1]}') throw new Error(`got ${JSON.stringify(json)}`);
    const bytes = new Uint8Array(1 << 20).map((_, i) => i * 7);
    const back = new Uint8Array(await ask(alice.connect(bob.id), bytes));
    if (back.length !== bytes.length || back.some((b, i) => b !== bytes[i])) throw new Error(`got ${back.length} bytes that differ`);
    alice.destroy();
    bob.destroy();
  },

  /** A video call, both ways. */
  async media({peers}) {
    const {open, until} = /** @type {any} */ (window);
    const [alice, bob] = await Promise.all([open(undefined, peers), open(undefined, peers)]);
    const stream = await navigator.mediaDevices.getUserMedia({video: true});
    const frames = async (/** @type {any} */ call) => {
      const remote = await until(call, 'stream');
      const video = document.createElement('video');
      Object.assign(video, {srcObject: remote, muted: true, autoplay: true});
      document.body.append(video);
      for (let i = 0; i < 600; i++) {
        const report = await call.peerConnection.getStats();
        const decoded = [...report.values()].filter(({type}) => type === 'inbound-rtp').map(({framesDecoded}) => framesDecoded ?? 0);
        if (Math.max(0, ...decoded) >= 5) return;
        await new Promise(resolve => setTimeout(resolve, 100));
      }
      throw new Error('no frames');
    };
    const answered = new Promise((resolve, reject) => bob.on('call', (/** @type {any} */ call) => {
      call.answer(stream);
      frames(call).then(resolve, reject);
    }));
    await Promise.all([frames(alice.call(bob.id, stream)), answered]);
    alice.destroy();
    bob.destroy();
  },

  /** The callee opens two seconds after the call. */
  async late({peers}) {
    const {open, echo, ask, unique} = /** @type {any} */ (window);
    const id = unique(), alice = await open(undefined, peers);
    const answer = ask(alice.connect(id), 'hello');
    await new Promise(resolve => setTimeout(resolve, 2000));
    const bob = await open(id, peers);
    echo(bob);
    if (await answer !== 'hello') throw new Error('no echo');
    alice.destroy();
    bob.destroy();
  },

  /** The callee never comes: the caller learns it and stays open. */
  async absent({peers}) {
    const {open, unique, until} = /** @type {any} */ (window);
    const alice = await open(undefined, peers);
    alice.connect(unique());
    const {type} = await until(alice, 'error');
    if (type !== 'peer-unavailable' || !alice.open) throw new Error(`got ${type}, open ${alice.open}`);
    alice.destroy();
  },

  /** An id that another one has. */
  async taken({peers}) {
    const {open, create, until} = /** @type {any} */ (window);
    const alice = await open(undefined, peers);
    const {type} = await until(create(alice.id, peers), 'error');
    if (type !== 'unavailable-id' || !alice.open) throw new Error(`got ${type}, open ${alice.open}`);
    alice.destroy();
    const again = await open(alice.id, peers); // a clean end frees it
    again.destroy();
  },

  /** A client disconnects and reconnects; an offer that is made meanwhile arrives. */
  async reconnect({peers}) {
    const {open, echo, ask, until} = /** @type {any} */ (window);
    const [alice, bob] = await Promise.all([open(undefined, peers), open(undefined, peers)]);
    echo(bob);
    const {id} = bob;
    bob.disconnect();
    const answer = ask(alice.connect(id), 'hello');
    const opened = until(bob, 'open');
    bob.reconnect();
    await opened;
    if (!bob.open || await answer !== 'hello') throw new Error('not open');
    alice.destroy();
    bob.destroy();
  },

  /** The line of the callee dies silently. An offer into it arrives when the callee is back. */
  async dead({peers, stalling, stall}) {
    const {open, echo, ask, until, unique} = /** @type {any} */ (window);
    const [alice, bob] = await Promise.all([open(undefined, peers), open(unique(), stalling)]);
    echo(bob);
    await fetch(stall);
    const answer = ask(alice.connect(bob.id), 'hello');
    await new Promise(resolve => setTimeout(resolve, 1000));
    const opened = until(bob, 'open');
    bob.disconnect();
    bob.reconnect();
    await opened;
    if (!bob.open) throw new Error('not open');
    if (await answer !== 'hello') throw new Error('no echo');
    alice.destroy();
    bob.destroy();
  },

  /** A line that dies, and a client that comes back as another one, as after a reload. */
  async reload({stalling, stall}) {
    const {open, unique} = /** @type {any} */ (window);
    const alice = await open(unique(), stalling);
    await fetch(stall);
    const again = await open(alice.id, stalling);
    alice.destroy();
    again.destroy();
  },

  /** Fifty pairs in one page. */
  async many({peers}) {
    const {open, echo, ask} = /** @type {any} */ (window);
    await Promise.all(Array.from({length: 50}, async (_, i) => {
      const [alice, bob] = await Promise.all([open(undefined, peers), open(undefined, peers)]);
      echo(bob);
      if (await ask(alice.connect(bob.id), i) !== i) throw new Error(`no echo of ${i}`);
      alice.destroy();
      bob.destroy();
    }));
  },
};
