/**
 * The screen's page: it begins by itself, there is nothing to permit.
 */

import {WakeLock, bindStatus, find, joinRoom} from './page.js';
import {ReceivingEndpoint} from './session.js';

/** @type {Record<import('./session.js').EndpointState, import('./status.js').Notice>} */
const notices = {
  waiting: {tone: 'busy', title: 'Waiting for the camera', hint: 'The picture appears here by itself.'},
  present: {tone: 'busy', title: 'The camera’s page is open', hint: 'Press start there.'},
  connecting: {tone: 'busy', title: 'Connecting', hint: 'The camera was started.'},
  connected: {tone: 'good', title: 'Connected', hint: 'Encrypted from the camera to this screen.'},
  reconnecting: {tone: 'busy', title: 'Connection lost, reconnecting', hint: 'It comes back by itself.'},
};

const stage = find('.stage', HTMLElement);
const video = find('#picture', HTMLVideoElement);
const soundButton = find('#sound', HTMLButtonElement);
const fullscreenButton = find('#fullscreen', HTMLButtonElement);
const takeOver = find('#take-over', HTMLButtonElement);
const wakeLock = new WakeLock();

const context = await joinRoom('receive');
if (context) run(context);

/** @param {import('./page.js').Context} context */
function run(context) {
  const endpoint = new ReceivingEndpoint(context);
  const refresh = bindStatus(context, endpoint, () => notices[endpoint.state]);
  endpoint.addEventListener('track', event => showTrack(/** @type {CustomEvent} */ (event).detail.track));
  endpoint.addEventListener('state', () => {
    if (!endpoint.peer) video.srcObject = null;
    void wakeLock.set(endpoint.state === 'connected');
  });
  context.inbox.addEventListener('superseded', () => endpoint.hangUp());
  takeOver.addEventListener('click', () => endpoint.open());
  soundButton.addEventListener('click', toggleSound);
  fullscreenButton.addEventListener('click', toggleFullscreen);
  fullscreenButton.hidden = !canFullscreen();
  refresh();
  endpoint.open();
}

/**
 * A new call's tracks replace those of the one before; video and audio of one
 * call come one after the other.
 * @param {MediaStreamTrack} track
 */
function showTrack(track) {
  const stream = video.srcObject instanceof MediaStream ? video.srcObject : new MediaStream();
  for (const old of stream.getTracks()) {
    if (old.kind === track.kind) stream.removeTrack(old);
  }
  stream.addTrack(track);
  video.srcObject = stream;
  // Muted, a video may begin without a press; the person unmutes it.
  video.play().catch(() => {}); // another track is already replacing this one
}

function toggleSound() {
  video.muted = !video.muted;
  void video.play(); // phones that save power did not let it begin without a press
  soundButton.textContent = video.muted ? 'Unmute' : 'Mute';
  stage.classList.toggle('audible', !video.muted);
}

function canFullscreen() {
  return document.fullscreenEnabled || 'webkitEnterFullscreen' in video;
}

function toggleFullscreen() {
  if (document.fullscreenElement) return void document.exitFullscreen();
  if (document.fullscreenEnabled) return void stage.requestFullscreen();
  // iPhones fill the screen with a video, not with a page.
  /** @type {{webkitEnterFullscreen?: () => void}} */ (/** @type {unknown} */ (video)).webkitEnterFullscreen?.();
}
