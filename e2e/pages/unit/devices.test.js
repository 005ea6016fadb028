/** Tests devices.js and sound.js as far as they need no browser. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {PendingCapture, browserToUse, captureNotice, constraintsFor, missingNotice, speakersOf} from '../../../public/devices.js';
import {SoundMixer, levelOf, litBars} from '../../../public/sound.js';
import {FakeTrack, refusal} from '../lib/fakemedia.js';

const iPhone = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS]';
const android = 'Mozilla/5.0 (Linux; Android 15; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/140.0 Mobile Safari/537.36';

test('a browser without mediaDevices is told which one to use', () => {
  assert.match(missingNotice({userAgent: iPhone})?.hint ?? '', /open it in Safari/);
  assert.match(missingNotice({userAgent: android})?.hint ?? '', /open it in Chrome or Firefox/);
  assert.match(browserToUse('Mozilla/5.0 (X11; Linux x86_64)'), /Firefox, Chrome, Edge or Safari/);
  assert.equal(missingNotice({userAgent: iPhone, mediaDevices: /** @type {any} */ ({getUserMedia() {}})}), null);
});

test('notices of captures', () => {
  assert.match(captureNotice(refusal('NotAllowedError'), 'video').title, /camera was denied/);
  assert.match(captureNotice(refusal('NotAllowedError'), 'audio').title, /microphone was denied/);
  assert.match(captureNotice(refusal('NotFoundError'), 'audio', 'press Microphone').hint ?? '', /press Microphone/);
  assert.match(captureNotice(new TypeError('odd'), 'video').title, /did not start/);
});

test('constraints name a device only if one is chosen', () => {
  assert.deepEqual(constraintsFor('audio', ''), {});
  assert.deepEqual(constraintsFor('audio', 'x'), {deviceId: {exact: 'x'}});
  assert.deepEqual(constraintsFor('video', ''), {width: {ideal: 1280}, height: {ideal: 720}});
});

test('a later capture replaces one that waits', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const pending = new PendingCapture();
  /** @type {boolean[]} */
  const changes = [];
  pending.addEventListener('waiting', event => changes.push(/** @type {CustomEvent} */ (event).detail));
  const late = new FakeTrack('video');
  /** @type {(tracks: any[]) => void} */
  let answer = () => {};
  const first = pending.run(() => new Promise(resolve => { answer = resolve; }));
  t.mock.timers.tick(2_000);
  const track = /** @type {any} */ (new FakeTrack('video'));
  assert.deepEqual(await pending.run(async () => [track]), [track]);
  answer([late]);
  assert.equal(await first, null);
  assert.equal(late.readyState, 'ended');
  assert.deepEqual(changes, [true, false]);
});

test('an error of a replaced capture is dropped, and one of the present is not', async () => {
  const pending = new PendingCapture();
  const first = pending.run(async () => { throw refusal('NotAllowedError'); });
  pending.cancel();
  assert.equal(await first, null);
  await assert.rejects(pending.run(async () => { throw refusal('NotFoundError'); }), {name: 'NotFoundError'});
});

test('the level of a microphone', () => {
  assert.equal(levelOf(new Float32Array(64)), 0);
  assert.equal(levelOf(new Float32Array(64).fill(1)), 1);
  assert.equal(levelOf(new Float32Array(64).fill(0.001)), 0);
  const voice = levelOf(new Float32Array(64).fill(0.03));
  assert.ok(voice > 0.4 && voice < 0.7, `got ${voice}`);
  assert.deepEqual([0, 0.02, 0.5, 1].map(level => litBars(level, 5)).map(Math.abs), [0, 1, 3, 5]);
});

test('a mixer without Web Audio sends the first sound', () => {
  const tracks = /** @type {any[]} */ ([new FakeTrack('audio'), new FakeTrack('audio')]);
  assert.equal(new SoundMixer().mix(tracks), tracks[0]);
});

test('only speakers with an id can be chosen', () => {
  const device = (/** @type {MediaDeviceKind} */ kind, /** @type {string} */ deviceId) => ({kind, deviceId, label: ''});
  const devices = [device('audiooutput', ''), device('audioinput', 'mic'), device('audiooutput', 'out')];
  assert.deepEqual(speakersOf(devices).map(({deviceId}) => deviceId), ['out']);
});
