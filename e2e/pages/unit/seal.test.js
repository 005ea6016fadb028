/** Tests seal.js: encrypted signals, alone and as the option `sealer` of an Inbox. */

import assert from 'node:assert/strict';
import {createDecipheriv, hkdfSync} from 'node:crypto';
import {test} from 'node:test';
import {SealError, Sealer, signalSealer} from '../../../public/seal.js';
import {base64url, fromBase64url} from '../../../public/room.js';
import {ReceivingEndpoint, SendingEndpoint} from '../../../public/session.js';
import {FakePeer} from '../lib/fakesession.js';
import {flushPromises, nextDetail, openInbox, startInbox} from '../lib/inboxes.js';
import {MailboxServer} from '../lib/mailboxes.js';

const secret = 's'.repeat(22);
const context = {from: 'page-a', to: 'page-b', call: 'call-1', direction: 'send'};
const signal = {call: 'call-1', n: 3, description: {type: 'offer', sdp: 'v=0\r\na=fingerprint:sha-256 é'}};

/** @param {string} code */
const sealError = code => (/** @type {unknown} */ error) => error instanceof SealError && error.name === 'SealError' && error.code === code;

/** Flips the lowest bit of one byte. @param {string} text base64url @param {number} index from the end if negative */
function flipBit(text, index) {
  const bytes = /** @type {Uint8Array} */ (fromBase64url(text));
  bytes[index < 0 ? bytes.length + index : index] ^= 1;
  return base64url(bytes);
}

test('base64url decodes what it encodes, and has one spelling', () => {
  for (let length = 0; length < 300; length += 7) {
    const bytes = crypto.getRandomValues(new Uint8Array(length));
    assert.deepEqual(fromBase64url(base64url(bytes)), bytes);
  }
  for (const invalid of ['A', 'AB', 'AAAAB', 'AA==', 'A+A', 'A/A', 'A A', 'AA\n', 'é', null, undefined, 7, ['AA']]) {
    assert.equal(fromBase64url(invalid), null, String(invalid));
  }
});

test('both sides of a room derive the same key', async () => {
  const [a, b] = await Promise.all([Sealer.create(secret, 'room'), Sealer.create(secret, 'room')]);
  assert.deepEqual(await b.open(await a.seal(signal, context), context), signal);
  assert.deepEqual(await a.open(await b.seal(signal, context), context), signal);
});

test('a receiver that follows docs/protocol.md with other tools opens an envelope', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  const derive = (/** @type {string} */ info, /** @type {number} */ length) => Buffer.from(hkdfSync('sha256', secret, 'room', info, length));
  assert.equal(envelope.key, derive('inbox signal v1 key id', 8).toString('base64url'));
  const box = Buffer.from(envelope.box, 'base64url');
  const decipher = createDecipheriv('aes-256-gcm', derive('inbox signal v1 key', 32), Buffer.from(envelope.nonce, 'base64url'));
  decipher.setAAD(Buffer.from('["inbox signal v1","page-a","page-b","call-1","send"]'));
  decipher.setAuthTag(box.subarray(-16));
  const plain = Buffer.concat([decipher.update(box.subarray(0, -16)), decipher.final()]);
  assert.deepEqual(JSON.parse(plain.toString()), signal);
});

test('keys of different purposes differ', async () => {
  const [signals, links] = await Promise.all([Sealer.create(secret, 'room'), Sealer.create(secret, 'room', 'link')]);
  const envelope = await signals.seal(signal, context);
  await assert.rejects(links.open(envelope, context), sealError('wrong-key'));
});

test('an envelope shows nothing of the signal and differs each time', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const [one, two] = [await sealer.seal(signal, context), await sealer.seal(signal, context)];
  assert.deepEqual(Object.keys(one), ['v', 'key', 'nonce', 'box']);
  assert.equal(one.v, 1);
  assert.equal(one.key, two.key);
  assert.notEqual(one.nonce, two.nonce);
  assert.notEqual(one.box, two.box);
  const bytes = Buffer.from(one.box, 'base64url').toString('latin1');
  assert.ok(!bytes.includes('fingerprint') && !bytes.includes('offer'));
  assert.ok(!JSON.stringify(one).includes(secret));
});

test('another secret or another room is a wrong key', async () => {
  const envelope = await (await Sealer.create(secret, 'room')).seal(signal, context);
  for (const [otherSecret, otherRoom] of [['t'.repeat(22), 'room'], [secret, 'moor'], ['', '']]) {
    const other = await Sealer.create(otherSecret, otherRoom);
    await assert.rejects(other.open(envelope, context), sealError('wrong-key'));
    const {key} = await other.seal(signal, context);
    await assert.rejects(other.open({...envelope, key}, context), sealError('wrong-context'), 'a forged key id opens nothing');
  }
});

test('an envelope opens only in its own context', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  for (const field of Object.keys(context)) {
    await assert.rejects(sealer.open(envelope, {...context, [field]: 'other'}), sealError('wrong-context'), field);
  }
  const {from: to, to: from, ...rest} = context;
  await assert.rejects(sealer.open(envelope, {...rest, from, to}), sealError('wrong-context'), 'reflected');
  const shifted = {...context, from: 'page-a","page-b', to: 'x'};
  await assert.rejects(sealer.open(envelope, shifted), sealError('wrong-context'), 'parts are kept apart');
});

test('a change of any bit is detected', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  const {length} = /** @type {Uint8Array} */ (fromBase64url(envelope.box));
  for (let index = 0; index < length; index++) {
    await assert.rejects(sealer.open({...envelope, box: flipBit(envelope.box, index)}, context), sealError('wrong-context'), `byte ${index}`);
  }
  for (let index = 0; index < 12; index++) {
    await assert.rejects(sealer.open({...envelope, nonce: flipBit(envelope.nonce, index)}, context), sealError('wrong-context'));
  }
  await assert.rejects(sealer.open({...envelope, key: flipBit(envelope.key, -1)}, context), sealError('wrong-key'));
  const shorter = base64url(/** @type {Uint8Array} */ (fromBase64url(envelope.box)).slice(0, -1));
  await assert.rejects(sealer.open({...envelope, box: shorter}, context), sealError('wrong-context'));
});

test('a plain signal is refused', async () => {
  const sealer = await Sealer.create(secret, 'room');
  for (const plain of [signal, null, undefined, '', 'text', 7, true, [], {}, {v: '1'}, new ArrayBuffer(4)]) {
    await assert.rejects(sealer.open(plain, context), sealError('not-sealed'), String(plain));
  }
});

test('an envelope of another version is refused', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  for (const v of [0, 2, 1.5, NaN]) await assert.rejects(sealer.open({...envelope, v}, context), sealError('wrong-version'));
});

test('a malformed field is refused', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  for (const field of ['key', 'nonce', 'box']) {
    for (const value of [undefined, null, 7, {}, ['AA'], '', 'A', 'not base64!', 'AA==', 'AAAA']) {
      await assert.rejects(sealer.open({...envelope, [field]: value}, context), sealError('malformed'), `${field}: ${value}`);
    }
  }
});

test('a malformed context is refused on both sides', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  for (const field of Object.keys(context)) {
    for (const value of [undefined, null, 7, {}, '', 'x'.repeat(257)]) {
      const invalid = /** @type {any} */ ({...context, [field]: value});
      await assert.rejects(sealer.seal(signal, invalid), sealError('malformed'), `${field}: ${value}`);
      await assert.rejects(sealer.open(envelope, invalid), sealError('malformed'), `${field}: ${value}`);
    }
  }
});

test('the size of a signal is limited', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const largest = 'x'.repeat(64 * 1024 - 2); // with the quotes of JSON
  const envelope = await sealer.seal(largest, context);
  assert.equal(await sealer.open(envelope, context), largest);
  await assert.rejects(sealer.seal(`${largest}x`, context), sealError('too-large'));
  await assert.rejects(sealer.open({...envelope, box: `${envelope.box}AA`}, context), sealError('too-large'));
});

test('a replayed envelope carries its old number', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const envelope = await sealer.seal(signal, context);
  assert.equal((await sealer.open(envelope, context)).n, 3);
  assert.equal((await sealer.open(envelope, context)).n, 3, 'the caller drops a number that is not new');
});

/** Opens the inboxes of both sides of a room on a server. @param {MailboxServer} server */
async function openRoom(server) {
  const [key, sameKey] = await Promise.all([Sealer.create(secret, 'room'), Sealer.create(secret, 'room')]);
  const camera = openInbox('http://localhost/inbox', {name: 'room-send', fetch: server.fetch, sealer: signalSealer(key, {local: 'send', remote: 'receive'})});
  const screen = openInbox('http://localhost/inbox', {name: 'room-receive', fetch: server.fetch, sealer: signalSealer(sameKey, {local: 'receive', remote: 'send'})});
  await Promise.all([startInbox(camera), startInbox(screen)]);
  return {camera, screen};
}

const message = {kind: 'signal', page: 'page-a', to: 'page-b', signal};

test('inboxes of a room exchange encrypted signals, in order', async () => {
  const server = new MailboxServer();
  const {camera, screen} = await openRoom(server);
  /** @type {any[]} */
  const got = [];
  const last = new Promise(resolve => screen.addEventListener('message', event => {
    const {data} = /** @type {CustomEvent} */ (event).detail;
    if (got.push(data) === 20) resolve(undefined);
  }));
  const messages = Array.from({length: 20}, (_, n) => ({...message, signal: {...signal, n, candidates: [{candidate: 'x'.repeat((20 - n) * 999)}]}}));
  await Promise.all(messages.map(data => camera.send('room-receive', data)));
  await last;
  assert.deepEqual(got, messages);
  assert.equal(server.sent.length, 20);
  for (const {data} of server.sent) {
    assert.deepEqual(Object.keys(data.signal), ['call', 'sealed']);
    assert.ok(!JSON.stringify(data).includes('fingerprint'));
  }
});

test('the endpoints of a call need no change', async () => {
  const server = new MailboxServer();
  const {camera, screen} = await openRoom(server);
  const noServers = async () => [];
  const options = {iceServers: noServers, fetchIceServers: noServers, createPeer: (/** @type {any} */ o) => new FakePeer(o)};
  const sender = new SendingEndpoint(/** @type {any} */ ({...options, inbox: camera, to: 'room-receive'}));
  const receiver = new ReceivingEndpoint(/** @type {any} */ ({...options, inbox: screen, to: 'room-send'}));
  await sender.setTrack('video', null);
  sender.open();
  receiver.open();
  sender.start();
  const received = () => /** @type {FakePeer | null} */ (/** @type {unknown} */ (receiver.peer))?.received ?? [];
  while (received().length === 0) await flushPromises();
  sender.stop();
  assert.equal(received()[0].description.type, 'offer');
  assert.deepEqual(server.sent.filter(({data}) => data.signal && !data.signal.sealed), []);
});

test('messages without keys pass unchanged', async () => {
  const server = new MailboxServer();
  const {camera, screen} = await openRoom(server);
  for (const data of [{kind: 'hello', page: 'page-a', live: true}, 'text', null, [1]]) {
    const received = nextDetail(screen, 'message');
    await camera.send('room-receive', data);
    assert.deepEqual((await received).data, data);
  }
  const received = nextDetail(screen, 'message');
  camera.sendLast('room-receive', {kind: 'bye', page: 'page-a'});
  assert.deepEqual((await received).data, {kind: 'bye', page: 'page-a'});
});

/** @type {[string, string, (sent: any) => any][]} */
const attacks = [
  ['a plain signal', 'not-sealed', () => message],
  ['a signal without an envelope', 'not-sealed', sent => ({...sent, signal: {call: 'call-1', sealed: null}})],
  ['no signal', 'malformed', sent => ({...sent, signal: undefined})],
  ['another sender', 'wrong-context', sent => ({...sent, page: 'page-m'})],
  ['no sender', 'malformed', ({page, ...sent}) => sent],
  ['another page', 'wrong-context', sent => ({...sent, to: 'page-m'})],
  ['another call', 'wrong-context', sent => ({...sent, signal: {...sent.signal, call: 'call-2'}})],
  ['another box', 'wrong-context', sent => ({...sent, signal: {...sent.signal, sealed: {...sent.signal.sealed, box: flipBit(sent.signal.sealed.box, 0)}}})],
];

for (const [name, code, change] of attacks) {
  test(`a server that delivers ${name} is detected`, async () => {
    const server = new MailboxServer();
    server.intercept = ({data}) => (data.kind === 'signal' ? change(data) : data);
    const {camera, screen} = await openRoom(server);
    const received = nextDetail(screen, 'message');
    const failed = nextDetail(screen, 'error');
    await camera.send('room-receive', message);
    const error = await failed;
    assert.equal(error.code, 'unreadable');
    assert.equal(error.retryIn, 0);
    assert.ok(sealError(code)(error.cause), String(error.cause));
    await camera.send('room-receive', {kind: 'hello', page: 'page-a'});
    assert.equal((await received).data.kind, 'hello', 'the message was skipped');
  });
}

test('a server that returns a signal to its sender is detected', async () => {
  const server = new MailboxServer();
  const {camera} = await openRoom(server);
  await camera.send('room-receive', message);
  const failed = nextDetail(camera, 'error');
  server.inject('room-receive', 'room-send', server.sent[0].data);
  assert.ok(sealError('wrong-context')((await failed).cause));
});

test('a signal that names another call than its envelope is refused', async () => {
  const sealer = await Sealer.create(secret, 'room');
  const {open} = signalSealer(sealer, {local: 'receive', remote: 'send'});
  for (const inner of [{...signal, call: 'call-2'}, null, 'text']) {
    const sealed = await sealer.seal(inner, context);
    const received = {...message, signal: {call: 'call-1', sealed}};
    await assert.rejects(open(received, 'room-send'), sealError('malformed'));
  }
});

test('a signal that cannot be sealed fails alone', async () => {
  const server = new MailboxServer();
  const {camera, screen} = await openRoom(server);
  const received = nextDetail(screen, 'message');
  const tooLarge = camera.send('room-receive', {...message, signal: {...signal, sdp: 'x'.repeat(65536)}});
  const next = camera.send('room-receive', message);
  await assert.rejects(tooLarge, sealError('too-large'));
  await next;
  assert.deepEqual((await received).data, message);
});

test('messages are dispatched in order, however long each takes to open', async () => {
  const server = new MailboxServer();
  /** @type {string[]} */
  const dispatched = [];
  /** @type {(() => void)[]} */
  const pending = [];
  const sealer = {
    seal: async (/** @type {unknown} */ data) => data,
    open: (/** @type {any} */ data) => new Promise(done => pending.push(() => done(data))),
  };
  const inbox = openInbox('http://localhost/inbox', {name: 'me', fetch: server.fetch, sealer});
  inbox.addEventListener('message', event => dispatched.push(/** @type {CustomEvent} */ (event).detail.data));
  await startInbox(inbox);
  for (const data of ['one', 'two']) server.inject('bob', 'me', data);
  while (pending.length === 0) await flushPromises();
  for (let i = 0; i < 50; i++) await flushPromises();
  assert.equal(pending.length, 1, 'the next message waits');
  for (let i = 0; i < 2; i++) {
    while (pending.length === i) await flushPromises();
    pending[i]();
  }
  while (dispatched.length < 2) await flushPromises();
  assert.deepEqual(dispatched, ['one', 'two']);
});

test('a message that is opened after the inbox was closed is dropped', async () => {
  const server = new MailboxServer();
  const sealer = {seal: async (/** @type {unknown} */ data) => data, open: async (/** @type {unknown} */ data) => data};
  /** @type {Promise<(data: unknown) => void>} */
  const opening = new Promise(started => (sealer.open = () => new Promise(finish => started(finish))));
  const inbox = openInbox('http://localhost/inbox', {name: 'me', fetch: server.fetch, sealer});
  inbox.addEventListener('message', () => assert.fail('dispatched a message after close'));
  await startInbox(inbox);
  await inbox.send('me', {kind: 'note'});
  const finish = await opening;
  inbox.close();
  finish({kind: 'note'});
  await flushPromises();
});
