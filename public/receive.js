/**
 * The screen page. It joins the call automatically, because receiving needs no
 * permission.
 */

import {WakeLock, bindStatus, find, joinRoom} from './page.js';
import {ReceivingEndpoint} from './session.js';

/** @type {Record<import('./session.js').EndpointState, import('./status.js').Notice>} */
const notices = {
  waiting: {tone: 'busy', title: 'Waiting for the camera', hint: 'The picture appears here automatically.'},
  present: {tone: 'busy', title: 'The camera page is open', hint: 'Press start there.'},
  connecting: {tone: 'busy', title: 'Connecting', hint: 'The camera has started.'},
  connected: {tone: 'good', title: 'Connected', hint: 'Encrypted from the camera to this screen.'},
  reconnecting: {tone: 'busy', title: 'Connection lost, reconnecting', hint: 'The call resumes automatically.'},
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
  takeOver.addEventListener('click', () => endpoint.open());
  soundButton.addEventListener('click', toggleSound);
  fullscreenButton.addEventListener('click', toggleFullscreen);
  fullscreenButton.hidden = !canFullscreen();
  refresh();
  endpoint.open();
}

/**
 * Shows a track in place of the previous track of its kind. The video and audio
 * tracks of a call arrive separately.
 * @param {MediaStreamTrack} track
 */
function showTrack(track) {
  const stream = video.srcObject instanceof MediaStream ? video.srcObject : new MediaStream();
  for (const old of stream.getTracks()) {
    if (old.kind === track.kind) stream.removeTrack(old);
  }
  stream.addTrack(track);
  video.srcObject = stream;
  // Browsers allow autoplay only while muted. The user unmutes the video.
  video.play().catch(() => {}); // interrupted by the next track
}

function toggleSound() {
  video.muted = !video.muted;
  void video.play(); // phones in low-power mode block autoplay
  soundButton.textContent = video.muted ? 'Unmute' : 'Mute';
  stage.classList.toggle('audible', !video.muted);
}

function canFullscreen() {
  return document.fullscreenEnabled || 'webkitEnterFullscreen' in video;
}

function toggleFullscreen() {
  if (document.fullscreenElement) return void document.exitFullscreen();
  if (document.fullscreenEnabled) return void stage.requestFullscreen();
  // iPhones support full screen for a video only.
  /** @type {{webkitEnterFullscreen?: () => void}} */ (/** @type {unknown} */ (video)).webkitEnterFullscreen?.();
}
