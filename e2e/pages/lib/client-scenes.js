/**
 * What two clients of the npm package do. Each function runs in a page that has the package as
 * window.client, and is called with an object. The two pages of a scene run at the same time.
 */

/**
 * @typedef {object} Scene
 * @property {string} url of the mailboxes
 * @property {string} name of the callee
 * @property {string} [secret] encrypts the signals
 * @property {boolean} [core] without the parts that are imports of their own
 * @property {boolean} [video]
 * @property {RTCIceTransportPolicy} [policy]
 */

/** Runs in the page: defines what the scenes use. */
export function defineClientHelpers() {
  const win = /** @type {any} */ (window);
  /** @param {Scene} scene */
  win.options = async ({secret, core, video, policy}) => ({
    ...core ? {} : {Inbox: win.client.StreamInbox, Call: win.client.ChannelCall, Peer: win.client.WatchedPeer},
    sealer: secret && await win.client.Sealer.create(secret, 'a test'),
    stream: video ? await navigator.mediaDevices.getUserMedia({video: true}) : undefined,
    iceTransportPolicy: policy, signal: AbortSignal.timeout(90_000),
  });
  /** Resolves to the next message of a channel. @param {any} channel */
  win.message = channel => new Promise((resolve, reject) => {
    channel.addEventListener('message', (/** @type {any} */ {data}) => resolve(data), {once: true});
    channel.addEventListener('error', (/** @type {any} */ {detail}) => reject(detail), {once: true});
  });
  win.pattern = (/** @type {number} */ length) => new Uint8Array(length).map((_, i) => i * 7 + (i >> 12));
  win.same = (/** @type {ArrayBuffer} */ got, /** @type {Uint8Array} */ want) =>
    got.byteLength === want.length && new Uint8Array(got).every((byte, i) => byte === want[i]);
  /** Waits until the call shows moving video. */
  win.frames = async () => {
    while (!win.call) await new Promise(resolve => setTimeout(resolve, 20)); // the callee has it later
    const {call} = win;
    const video = document.createElement('video');
    Object.assign(video, {srcObject: call.remoteStream, muted: true, autoplay: true});
    document.body.append(video);
    for (let i = 0; i < 600; i++) {
      const report = await call.getStats();
      const decoded = [...report.values()].filter(({type}) => type === 'inbound-rtp').map(({framesDecoded}) => framesDecoded ?? 0);
      if (Math.max(0, ...decoded) >= 5 && video.videoWidth > 0) return true;
      await new Promise(resolve => setTimeout(resolve, 100));
    }
    throw new Error('no frames');
  };
  /** Answers calls and echoes the messages of their channels. @param {Scene} scene */
  win.echo = async scene => {
    const {client} = win;
    const listener = await client.listen(scene.url, {name: scene.name, password: 'secret', ...await win.options(scene)});
    const echo = (/** @type {any} */ channel) => channel.addEventListener('message', (/** @type {any} */ {data}) => void channel.send(data));
    listener.addEventListener('call', (/** @type {any} */ {detail: call}) => {
      win.call = call;
      echo(call.channel);
      call.addEventListener('channel', (/** @type {any} */ {detail}) => echo(detail));
    });
    win.listener = listener;
  };
  /** Connects. @param {Scene} scene */
  win.dial = async scene => {
    win.call = await win.client.connect(scene.url, scene.name, await win.options(scene));
  };
  /** Sends a value and returns what comes back. @param {any} value */
  win.ask = async value => {
    const answer = win.message(win.call.channel);
    await win.call.channel.send(value);
    return answer;
  };
}

/** Runs in the page of the caller: text, JSON, bytes of several sizes, a file and another channel. */
export async function exchange() {
  const {ask, call, pattern, same, message} = /** @type {any} */ (window);
  for (const text of ['', 'hello', 'é'.repeat(100_000)]) if (await ask(text) !== text) throw new Error('another text');
  const json = await ask({hello: ['world', 1, null]});
  if (JSON.stringify(json) !== '{"hello":["world",1,null]}') throw new Error(`got ${JSON.stringify(json)}`);
  for (const length of [0, 1, 65_535, 65_536, 1 << 20]) {
    if (!same(await ask(pattern(length)), pattern(length))) throw new Error(`other bytes than ${length}`);
  }
  if (!same(await ask(new Blob([pattern(200_000)])), pattern(200_000))) throw new Error('another file');
  const channel = call.createChannel('second');
  const answer = message(channel);
  await channel.send('over the second');
  if (await answer !== 'over the second' || channel.label !== 'second') throw new Error('another channel');
}

/** Runs in the page of the caller: messages that fit in a frame, which each pair of clients can exchange. */
export async function exchangeFrames() {
  const {ask, call, pattern, same} = /** @type {any} */ (window);
  for (const text of ['', 'hello', 'é'.repeat(30_000)]) if (await ask(text) !== text) throw new Error('another text');
  const json = await ask({hello: ['world', 1, null]});
  if (JSON.stringify(json) !== '{"hello":["world",1,null]}') throw new Error(`got ${JSON.stringify(json)}`);
  for (const length of [0, 1, 65_535]) if (!same(await ask(pattern(length)), pattern(length))) throw new Error(`other bytes than ${length}`);
  let received = 0;
  const done = new Promise(resolve => call.channel.addEventListener('message', () => ++received === 100 && resolve(undefined)));
  for (let i = 0; i < 100; i++) {
    await call.channel.send(new Uint8Array(60_000));
    if (call.channel.bufferedAmount > 2 << 20) throw new Error(`${call.channel.bufferedAmount} bytes in the buffer`);
  }
  await done;
}

/** Runs in the page of the caller: 8 MiB are sent no faster than they leave. */
export async function backPressure() {
  const {call} = /** @type {any} */ (window);
  let received = 0, largest = 0;
  const done = new Promise(resolve => call.channel.addEventListener('message', () => ++received === 8 && resolve(undefined)));
  for (let i = 0; i < 8; i++) {
    await call.channel.send(new Uint8Array(1 << 20));
    largest = Math.max(largest, call.channel.bufferedAmount);
  }
  await done;
  return largest;
}
