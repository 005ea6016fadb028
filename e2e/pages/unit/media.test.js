/** Tests media.js: what a device sends while sources are turned on, refused, muted, replaced and shared. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {LocalMedia, nextCamera} from '../../../public/media.js';
import {FakeDevices, FakeTrack, refusal} from '../lib/fakemedia.js';

/** @typedef {'audio'|'video'} Kind */

/** @param {Partial<Record<Kind, string>>} [permissions] */
function makeMedia(permissions = {}) {
  const devices = new FakeDevices();
  /** @type {{tracks: any[], output: any, closed: number}} */
  const mixer = {tracks: [], output: new FakeTrack('audio'), closed: 0};
  const media = new LocalMedia({
    devices: /** @type {any} */ (devices),
    permissionState: async kind => permissions[kind] ?? 'prompt',
    mixer: {mix: tracks => { mixer.tracks = tracks; return mixer.output; }, close: () => { mixer.closed++; }},
  });
  /** @type {Record<Kind, any>} */
  const sent = {video: undefined, audio: undefined};
  media.addEventListener('track', event => {
    const {kind, track} = /** @type {CustomEvent} */ (event).detail;
    sent[/** @type {Kind} */ (kind)] = track;
  });
  return {media, devices, sent, mixer};
}

/** @param {LocalMedia} media */
const problemOf = media => media.problem;

/** @param {any} answer */
const kindsOf = answer => Object.keys(answer);

test('one question turns on camera and microphone', async () => {
  const {media, devices, sent} = makeMedia();
  await media.start();
  assert.deepEqual(devices.questions.map(kindsOf), [['video', 'audio']]);
  assert.deepEqual([sent.video, sent.audio], devices.tracks);
  assert.deepEqual(media.summary, {video: 'on', audio: 'on'});
  assert.equal(media.problem, null);
});

test('a denial is not followed by another question', async () => {
  const {media, devices} = makeMedia({video: 'denied', audio: 'denied'});
  devices.answer = async () => { throw refusal('NotAllowedError'); };
  await media.start();
  assert.equal(devices.questions.length, 1);
  assert.match(problemOf(media)?.notice.title ?? '', /camera was denied/);
  assert.match(problemOf(media)?.notice.hint ?? '', /then press Camera/);
  assert.equal(problemOf(media)?.urgent, false);
  assert.deepEqual(media.summary, {video: 'off', audio: 'off'});
});

test('with a denied camera, a granted microphone is used', async () => {
  const {media, devices, sent} = makeMedia({video: 'denied', audio: 'granted'});
  devices.answer = async ({video}) => { if (video) throw refusal('NotAllowedError'); };
  await media.start();
  assert.deepEqual(devices.questions.map(kindsOf), [['video', 'audio'], ['audio']]);
  assert.equal(sent.video, undefined);
  assert.equal(sent.audio?.kind, 'audio');
});

for (const [name, title] of [['NotFoundError', /No camera/], ['NotReadableError', /in use/], ['AbortError', /in use/], ['Odd', /did not start/]]) {
  test(`${name} of the camera: the microphone is used`, async () => {
    const {media, devices, sent} = makeMedia();
    devices.answer = async ({video}) => { if (video) throw refusal(/** @type {string} */ (name)); };
    await media.start();
    assert.equal(sent.audio?.kind, 'audio');
    assert.match(problemOf(media)?.notice.title ?? '', /** @type {RegExp} */ (title));
  });
}

test('without devices nothing is captured', async () => {
  const media = new LocalMedia({devices: undefined, permissionState: async () => 'unknown'});
  await media.start();
  assert.equal(await media.turnOn('video'), false);
  assert.equal(await media.shareScreen(), false);
  assert.deepEqual(media.summary, {video: 'off', audio: 'off'});
});

test('the camera releases its device, the microphone keeps it', async () => {
  const {media, devices, sent} = makeMedia();
  await media.start();
  const [camera, microphone] = devices.tracks;
  media.turnOff('video');
  media.turnOff('audio');
  assert.equal(camera.readyState, 'ended');
  assert.deepEqual([microphone.readyState, microphone.enabled], ['live', false]);
  assert.deepEqual([sent.video, sent.audio], [null, microphone]);
  assert.deepEqual(media.summary, {video: 'off', audio: 'off'});
  await Promise.all([media.turnOn('audio'), media.turnOn('video')]);
  assert.deepEqual([sent.video, sent.audio], [devices.tracks[2], microphone]);
  assert.equal(microphone.enabled, true);
});

test('tracks that the system mutes or ends are reported', async () => {
  const {media, devices, sent} = makeMedia();
  await media.start();
  const [camera, microphone] = devices.tracks;
  camera.setMuted(true);
  assert.deepEqual(media.summary, {video: 'interrupted', audio: 'on'});
  assert.match(problemOf(media)?.notice.title ?? '', /paused the camera/);
  assert.equal(problemOf(media)?.urgent, true);
  camera.setMuted(false);
  assert.equal(media.problem, null);
  microphone.end();
  assert.match(problemOf(media)?.notice.title ?? '', /microphone has stopped/);
  assert.equal(sent.audio, null);
  await media.turnOn('audio');
  assert.equal(media.problem, null);
});

test('a choice replaces a question that waits, and its late answer is dropped', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const {media, devices, sent} = makeMedia();
  /** @type {(() => void)[]} */
  const answers = [];
  devices.answer = () => new Promise(resolve => answers.push(resolve));
  const first = media.turnOn('video');
  t.mock.timers.tick(1_999);
  assert.equal(media.problem, null);
  t.mock.timers.tick(1);
  assert.match(problemOf(media)?.notice.title ?? '', /Answer the browser/);
  const second = media.choose('video', 'back');
  assert.equal(media.problem, null);
  assert.equal(devices.questions.at(-1)?.video.deviceId.exact, 'back');
  answers[1]();
  await second;
  assert.equal(sent.video, devices.tracks[0]);
  answers[0]();
  await first;
  assert.equal(devices.tracks[1].readyState, 'ended');
  assert.equal(sent.video, devices.tracks[0]);
  assert.equal(media.camera.state, 'on');
});

test('with permission, a slow camera is not a question', async t => {
  t.mock.timers.enable({apis: ['setTimeout']});
  const {media, devices} = makeMedia();
  media.granted = true;
  devices.answer = () => new Promise(() => {});
  void media.start();
  t.mock.timers.tick(2_000);
  assert.match(problemOf(media)?.notice.title ?? '', /Starting/);
  media.stop();
  assert.equal(media.problem, null);
});

test('a choice while the camera is off only counts later', async () => {
  const {media, devices} = makeMedia();
  await media.choose('video', 'back');
  assert.equal(devices.questions.length, 0);
  await media.turnOn('video');
  assert.equal(devices.questions[0].video.deviceId.exact, 'back');
});

test('the other side of a phone, and back to the first if it fails', async () => {
  const {media, devices} = makeMedia();
  await media.turnOn('video');
  devices.tracks[0].settings.facingMode = 'user';
  assert.equal(media.mirrored, true);
  await media.switchCamera();
  assert.deepEqual(devices.questions.at(-1)?.video.facingMode, {exact: 'environment'});
  assert.equal(devices.tracks[0].readyState, 'ended');
  assert.equal(media.mirrored, false);
  devices.answer = async ({video}) => { if (video.facingMode) throw refusal('OverconstrainedError'); };
  await media.switchCamera();
  assert.equal(media.camera.state, 'on');
  assert.equal(devices.questions.length, 4);
});

test('the next camera of a list', () => {
  const list = ['a', 'b', 'c'].map(deviceId => ({kind: /** @type {const} */ ('videoinput'), deviceId}));
  assert.deepEqual(nextCamera({deviceId: 'a'}, list), {deviceId: {exact: 'b'}});
  assert.deepEqual(nextCamera({deviceId: 'c'}, list), {deviceId: {exact: 'a'}});
  assert.equal(nextCamera({deviceId: 'a'}, list.slice(0, 1)), null);
});

test('a shared screen replaces the camera, and its sound is mixed with the microphone', async () => {
  const {media, devices, sent, mixer} = makeMedia();
  await media.start();
  const [camera, microphone] = devices.tracks;
  assert.equal(await media.shareScreen(), true);
  const [screen, sound] = devices.screen ?? [];
  assert.deepEqual([sent.video, sent.audio], [screen, mixer.output]);
  assert.deepEqual(mixer.tracks, [microphone, sound]);
  assert.deepEqual(media.summary, {video: 'screen', audio: 'on'});
  assert.equal(media.mirrored, false);
  screen.end(); // the browser's own bar
  assert.equal(media.sharing, false);
  assert.deepEqual([sent.video, sent.audio], [camera, microphone]);
  assert.equal(sound.readyState, 'ended');
});

test('a shared screen without a microphone sends the sound of the tab', async () => {
  const {media, devices, sent} = makeMedia();
  await media.shareScreen();
  assert.equal(sent.audio, devices.screen?.[1]);
  devices.screen?.[1].end();
  assert.equal(sent.audio, null);
  assert.equal(media.sharing, true);
});

test('a screen that was chosen after the call ended is not shared', async () => {
  const {media, devices} = makeMedia();
  const shared = media.shareScreen();
  media.stop();
  await shared;
  assert.equal(media.sharing, false);
  assert.deepEqual(devices.screen?.map(({readyState}) => readyState), ['ended', 'ended']);
});

test('a cancelled choice of a screen changes nothing', async () => {
  const {media, devices, sent} = makeMedia();
  await media.start();
  devices.screen = null;
  assert.equal(await media.shareScreen(), false);
  assert.equal(sent.video, devices.tracks[0]);
});

test('stop releases everything', async () => {
  const {media, devices, sent} = makeMedia();
  await media.start();
  await media.shareScreen();
  media.stop();
  assert.deepEqual([sent.video, sent.audio], [null, null]);
  for (const track of [...devices.tracks, ...devices.screen ?? []]) assert.equal(track.readyState, 'ended');
});
