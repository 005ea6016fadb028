/** Tests play.js with a video element whose browser refuses sound, or everything. */

import assert from 'node:assert/strict';
import {test} from 'node:test';
import {Playback} from '../../../public/play.js';
import {FakeStream, FakeTrack, refusal} from '../lib/fakemedia.js';

class FakeVideo extends EventTarget {
  muted = false;
  /** @type {any} */
  srcObject = null;
  videoWidth = 0;
  /** @type {Set<string>} */
  classes = new Set();
  classList = {add: (/** @type {string} */ name) => this.classes.add(name), remove: (/** @type {string} */ name) => this.classes.delete(name)};
  /** What the browser permits. @type {'sound'|'muted'|'nothing'} */
  permits = 'sound';
  plays = 0;

  async play() {
    this.plays++;
    if (this.permits === 'nothing' || (this.permits === 'muted' && !this.muted)) throw refusal('NotAllowedError');
  }
}

/** @param {FakeVideo['permits']} permits @param {boolean} [sound] */
function makePlayback(permits, sound) {
  const video = new FakeVideo();
  video.permits = permits;
  const playback = new Playback(/** @type {any} */ (video), {sound, newStream: () => /** @type {any} */ (new FakeStream())});
  return {video, playback, picture: /** @type {any} */ (new FakeTrack('video'))};
}

test('sound is on where the browser permits it', async () => {
  const {video, playback, picture} = makePlayback('sound');
  await playback.show(picture);
  assert.deepEqual([playback.blocked, video.muted, playback.sound], [null, false, true]);
});

test('refused sound: the picture plays, and a press turns the sound on', async () => {
  const {video, playback, picture} = makePlayback('muted');
  await playback.show(picture);
  assert.deepEqual([playback.blocked, video.muted], ['sound', true]);
  video.permits = 'sound';
  await playback.press();
  assert.deepEqual([playback.blocked, video.muted], [null, false]);
});

test('refused playback: a press starts it', async () => {
  const {video, playback, picture} = makePlayback('nothing', false);
  await playback.show(picture);
  assert.equal(playback.blocked, 'picture');
  video.permits = 'sound';
  await playback.press();
  assert.deepEqual([playback.blocked, video.muted], [null, false]);
});

test('sound that is not wanted is not refused', async () => {
  const {video, playback, picture} = makePlayback('muted', false);
  await playback.show(picture);
  assert.deepEqual([playback.blocked, video.muted], [null, true]);
  await playback.setSound(true);
  assert.equal(playback.blocked, 'sound');
});

test('a track replaces the one of its kind', async () => {
  const {video, playback, picture} = makePlayback('sound');
  const [sound, next] = [new FakeTrack('audio'), new FakeTrack('video')];
  await playback.show(picture);
  await playback.show(/** @type {any} */ (sound));
  await playback.show(/** @type {any} */ (next));
  assert.deepEqual(video.srcObject.getTracks(), [sound, next]);
});

test('the class of the first frame, until the call ends', async () => {
  const {video, playback, picture} = makePlayback('sound');
  await playback.show(picture);
  video.dispatchEvent(new Event('loadeddata'));
  assert.equal(video.classes.has('has-picture'), false, 'sound only');
  video.videoWidth = 640;
  video.dispatchEvent(new Event('resize'));
  assert.equal(video.classes.has('has-picture'), true);
  playback.clear();
  assert.deepEqual([video.classes.has('has-picture'), video.srcObject], [false, null]);
});

test('a refusal that arrives after the end of the call is dropped', async () => {
  const {playback, picture} = makePlayback('nothing');
  const shown = playback.show(picture);
  playback.clear();
  await shown;
  assert.equal(playback.blocked, null);
});
