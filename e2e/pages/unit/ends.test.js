/** ends.js over a mailbox of arrays and peers that only keep books. */

import assert from 'node:assert/strict';
import {afterEach, beforeEach, mock, test} from 'node:test';
import {ReceivingEnd, SendingEnd} from '../../../public/ends.js';
import {FakeInbox, FakePeer, Post} from '../lib/fakeends.js';

const settle = () => new Promise(resolve => setImmediate(resolve));

/** @type {SendingEnd[]} */
let senders = [];
beforeEach(() => mock.timers.enable({apis: ['setInterval', 'Date']}));
afterEach(() => {
  for (const sender of senders) sender.stop();
  senders = [];
  mock.timers.reset();
});

/**
 * @template {typeof SendingEnd | typeof ReceivingEnd} T
 * @param {T} Kind
 * @param {Post} post
 */
function make(Kind, post) {
  const [name, to] = Kind === SendingEnd ? ['s', 'r'] : ['r', 's'];
  /** @type {FakePeer[]} */
  const peers = [];
  const options = /** @type {any} */ ({
    inbox: new FakeInbox(post, name), to,
    iceServers: async () => [{urls: 'stun:example.org'}],
    makePeer: (/** @type {any} */ o) => { peers.push(new FakePeer(o)); return peers.at(-1); },
  });
  const end = new Kind(options);
  if (end instanceof SendingEnd) senders.push(end);
  return {end: /** @type {InstanceType<T>} */ (end), peers, inbox: /** @type {FakeInbox} */ (options.inbox)};
}

const tooLarge = {kind: 'signal', status: 413, code: 'body-too-large'};

/**
 * A camera that is live and a screen, in one room.
 * @param {typeof tooLarge | null} [refused] what the server does not carry for the camera
 */
async function call(refused = null) {
  const post = new Post();
  const camera = make(SendingEnd, post);
  const screen = make(ReceivingEnd, post);
  camera.inbox.refuses = refused;
  camera.end.open();
  await camera.end.setTrack('video', null);
  camera.end.start();
  screen.end.open();
  await settle();
  return {post, camera, screen};
}

test('the camera first: one call, with ICE servers, to a polite screen', async () => {
  const {camera, screen} = await call();
  assert.equal(camera.peers.length, 1);
  assert.equal(screen.peers.length, 1);
  assert.equal(camera.peers[0].call, screen.peers[0].call);
  assert.deepEqual([camera.peers[0].options.polite, screen.peers[0].options.polite], [false, true]);
  assert.deepEqual(screen.peers[0].options.iceServers, [{urls: 'stun:example.org'}]);
  assert.equal(screen.peers[0].got[0].description.type, 'offer');
  assert.deepEqual([camera.end.state, screen.end.state], ['connecting', 'connecting']);
});

test('the screen first: both know of the other before start', async () => {
  const post = new Post();
  const screen = make(ReceivingEnd, post);
  screen.end.open();
  await settle();
  assert.equal(screen.end.state, 'waiting');
  const camera = make(SendingEnd, post);
  camera.end.open();
  await settle();
  assert.deepEqual([camera.end.state, screen.end.state], ['here', 'here']);
  await camera.end.setTrack('video', null);
  camera.end.start();
  await settle();
  assert.equal(screen.peers.length, 1);
});

test('a reloaded screen is called anew, with another call', async () => {
  const {post, camera} = await call();
  const again = make(ReceivingEnd, post);
  again.end.open();
  await settle();
  assert.equal(camera.peers.length, 2);
  assert.equal(camera.peers[0].state, 'closed');
  assert.notEqual(camera.peers[0].call, camera.peers[1].call);
  assert.equal(again.peers[0].call, camera.peers[1].call);
});

test('what was meant for a page before its reload is dropped', async () => {
  const {post} = await call();
  const stale = post.sent.filter(({data}) => data.kind === 'signal');
  post.readers.delete('s');
  const again = make(ReceivingEnd, post);
  again.end.open();
  for (const {data} of stale) again.end.inbox.dispatchEvent(new CustomEvent('message', {detail: {from: 's', data}}));
  await settle();
  assert.equal(again.peers.length, 0);
});

test('a late candidate of an earlier call begins nothing', async () => {
  const {screen, camera} = await call();
  await screen.end.hear({kind: 'signal', page: camera.end.page, to: screen.end.page, signal: {call: 'earlier', n: 9, candidates: []}});
  assert.equal(screen.peers.length, 1);
  assert.equal(screen.peers[0].state, 'connecting');
});

test('strangers and nonsense are not heard', async () => {
  const {screen} = await call();
  for (const detail of [{from: 'x', data: {kind: 'bye', page: screen.end.other}}, {from: 's', data: null}, {from: 's', data: 'bye'}, {from: 's', data: {page: 1}}]) {
    screen.end.inbox.dispatchEvent(new CustomEvent('message', {detail}));
  }
  await settle();
  assert.equal(screen.end.state, 'connecting');
});

test('a reloaded camera ends the old picture and waits for start', async () => {
  const {post, screen} = await call();
  screen.peers[0].turn('connected');
  const again = make(SendingEnd, post);
  again.end.open();
  await settle();
  assert.equal(screen.end.state, 'here');
  assert.equal(screen.peers[0].state, 'closed');
  await again.end.setTrack('video', null);
  again.end.start();
  await settle();
  assert.equal(screen.peers.length, 2);
});

test('stop ends the call, and the screen knows; a goodbye too', async () => {
  const {camera, screen} = await call();
  camera.end.stop();
  await settle();
  assert.deepEqual([camera.end.state, screen.end.state], ['here', 'here']);
  camera.end.leave();
  await settle();
  assert.equal(screen.end.state, 'waiting');
  screen.end.leave();
  await settle();
  assert.equal(camera.end.state, 'here', 'a screen that knows of nobody has nobody to tell');
});

test('a call that does not connect is replaced after its time, not before', async () => {
  const {camera} = await call();
  mock.timers.tick(9_000);
  await settle();
  assert.equal(camera.peers.length, 1);
  mock.timers.tick(3_000);
  await settle();
  assert.equal(camera.peers.length, 2);
});

test('a connected call is left alone, a broken one gets time to mend', async () => {
  const {camera, post} = await call();
  camera.peers[0].turn('connected');
  mock.timers.tick(60_000);
  await settle();
  camera.peers[0].turn('reconnecting');
  assert.equal(camera.end.state, 'reconnecting');
  mock.timers.tick(9_000);
  await settle();
  assert.equal(camera.peers.length, 1);
  const hellos = post.count('hello');
  mock.timers.tick(2_000);
  await settle();
  assert.equal(post.count('hello'), hellos + 2, 'asked and answered');
  assert.equal(camera.peers.length, 2);
});

test('a screen that is gone is called out to, but not in a flood', async () => {
  const {camera, post, screen} = await call();
  screen.end.leave();
  await settle();
  assert.equal(camera.end.state, 'waiting');
  post.readers.set('r', new FakeInbox(post, 'r')); // its mailbox outlives it
  const hellos = post.count('hello');
  for (let second = 0; second < 60; second++) {
    mock.timers.tick(1_000);
    await settle();
  }
  const more = post.count('hello') - hellos;
  assert.ok(more >= 8 && more <= 12, `got ${more} hellos in a minute`);
});

test('a page that was superseded keeps quiet', async () => {
  const {camera, post} = await call();
  const before = post.sent.length;
  Object.assign(camera.end.inbox, {status: 'superseded'});
  camera.end.stop();
  await settle();
  assert.equal(post.sent.length, before);
});

test('a stop while the ICE servers are asked for leaves no call behind', async () => {
  const {camera} = await call();
  /** @type {(servers: RTCIceServer[]) => void} */
  let answer = () => {};
  camera.end.iceServers = () => new Promise(resolve => { answer = resolve; });
  const heard = camera.end.hear({kind: 'hello', page: 'new'});
  await settle();
  camera.end.stop();
  answer([]);
  await heard;
  assert.equal(camera.end.peer, null);
  assert.equal(camera.peers.at(-1)?.state, 'closed');
});

test('a screen that is superseded while the ICE servers are asked for makes no peer', async () => {
  const {camera, screen} = await call();
  /** @type {(servers: RTCIceServer[]) => void} */
  let answer = () => {};
  screen.end.iceServers = () => new Promise(resolve => { answer = resolve; });
  const signal = /** @type {const} */ ({call: 'next', n: 1, description: {type: 'offer', sdp: ''}});
  const heard = screen.end.hear({kind: 'signal', page: camera.end.page, to: screen.end.page, signal});
  await settle();
  screen.end.hangUp(); // as its page does then
  answer([]);
  await heard;
  assert.equal(screen.peers.length, 1, 'peers made');
  assert.equal(screen.end.peer, null);
});

test('an offer that the server refuses ends the call, and both sides know why', async () => {
  const {post, camera, screen} = await call(tooLarge);
  assert.deepEqual([camera.end.fault, screen.end.fault], [tooLarge, tooLarge]);
  assert.deepEqual([camera.end.live, camera.end.state, screen.end.state], [false, 'here', 'here']);
  mock.timers.tick(60_000);
  await settle();
  assert.equal(camera.peers.length, 1, 'no call is made that would be refused again');

  camera.inbox.refuses = null;
  camera.end.start();
  await settle();
  assert.deepEqual([camera.end.fault, screen.end.fault], [null, null]);
  assert.equal(screen.peers.length, 1);
  assert.equal(post.count('refused'), 1);
});

test('an answer that the server refuses ends the call on both sides as well', async () => {
  const {camera, screen} = await call();
  screen.inbox.refuses = tooLarge;
  screen.peers[0].options.send({call: screen.peers[0].call, n: 1, description: {type: 'answer', sdp: ''}});
  await settle();
  assert.deepEqual([camera.end.fault, screen.end.fault], [tooLarge, tooLarge]);
  assert.deepEqual([camera.end.live, camera.end.peer, screen.end.peer], [false, null, null]);
});

test('a late refusal of a call that was replaced is nothing to the next', async () => {
  const {camera} = await call();
  const late = camera.peers[0].options.send;
  await camera.end.hear({kind: 'hello', page: 'new'});
  camera.inbox.refuses = tooLarge;
  late({call: camera.peers[0].call, n: 2, candidates: []});
  await settle();
  assert.deepEqual([camera.end.fault, camera.end.live], [null, true]);
});

test('a connected call outlives the refusal of a late signal', async () => {
  const {camera, screen} = await call();
  for (const {peers} of [camera, screen]) peers[0].turn('connected');
  camera.inbox.refuses = tooLarge;
  camera.peers[0].options.send({call: camera.peers[0].call, n: 2, candidates: []});
  await settle();
  assert.deepEqual([camera.end.state, screen.end.state], ['connected', 'connected']);
});

test('a hello that was refused is said again when the trouble has passed', async () => {
  const post = new Post();
  const screen = make(ReceivingEnd, post);
  screen.inbox.refuses = {kind: 'hello', status: 401, code: 'unauthorized'};
  screen.end.open();
  await settle();
  assert.deepEqual(screen.end.fault, screen.inbox.refuses);
  screen.inbox.refuses = null;
  screen.inbox.become('open');
  await settle();
  assert.equal(screen.end.fault, null, 'though nobody is there yet to hear it');
  post.read(new FakeInbox(post, 's'));
  await settle();
  assert.equal(post.count('hello'), 1);
});

test('a call is not given up while the server asks for pauses', async () => {
  const {camera} = await call();
  camera.inbox.become('retrying');
  mock.timers.tick(30_000);
  camera.inbox.become('open');
  mock.timers.tick(9_000);
  await settle();
  assert.equal(camera.peers.length, 1);
  mock.timers.tick(3_000);
  await settle();
  assert.equal(camera.peers.length, 2);
});

test('what is said of another page, or of this one before its reload, changes nothing', async () => {
  const {camera, screen} = await call();
  for (const {peers} of [camera, screen]) peers[0].turn('connected');
  await screen.end.hear({kind: 'bye', page: 'another'});
  await screen.end.hear({kind: 'refused', page: camera.end.page, to: 'an earlier load', code: 'body-too-large', status: 413});
  assert.deepEqual([screen.end.state, screen.end.fault], ['connected', null]);
});

test('hellos that wait for the other end are not doubled', async () => {
  const post = new Post();
  const screen = make(ReceivingEnd, post);
  screen.end.open();
  for (let i = 0; i < 5; i++) void screen.end.greet();
  await settle();
  post.read(new FakeInbox(post, 's'));
  await settle();
  assert.equal(post.count('hello'), 1);
  await screen.end.greet();
  assert.equal(post.count('hello'), 2, 'and the next is said again');
});

test('another track goes into the call that is', async () => {
  const {camera} = await call();
  const track = /** @type {MediaStreamTrack} */ ({kind: 'audio'});
  await camera.end.setTrack('audio', track);
  assert.equal(camera.peers[0].tracks.get('audio'), track);
});
