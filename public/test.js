/**
 * The self-test page. The checks of the connection run when it opens; camera and
 * microphone are tested when the user presses their buttons.
 */

import {CheckList} from './check-list.js';
import {CameraTest, MicrophoneTest} from './media-test.js';
import {find} from './dom.js';
import {report} from './report.js';
import {SelfTest, overall} from './self-test.js';
import {StatusView} from './status.js';
import * as strings from './strings.js';

const texts = strings.test;
const status = new StatusView(find('.test-summary', HTMLElement));
const againButton = find('#again', HTMLButtonElement);
const copyButton = find('#copy', HTMLButtonElement);
const reportField = find('#report', HTMLTextAreaElement);
const list = new CheckList(find('#checks', HTMLElement));
/** @type {SelfTest | null} */
let selfTest = null;

const camera = new CameraTest(find('#camera-picture', HTMLVideoElement));
const microphone = new MicrophoneTest(find('.test-level', HTMLElement));
bindMedia(camera, find('#camera', HTMLButtonElement), find('#camera-row', HTMLElement), texts.cameraStart, texts.cameraStop);
bindMedia(microphone, find('#microphone', HTMLButtonElement), find('#microphone-row', HTMLElement), texts.microphoneStart, texts.microphoneStop);

for (const part of ['.test-buttons', '.test-media', '.test-connection']) find(part, HTMLElement).hidden = false;
againButton.addEventListener('click', () => void run());
copyButton.addEventListener('click', () => void copyReport());
addEventListener('pagehide', () => {
  camera.stop();
  microphone.stop();
  selfTest?.cancel();
});
addEventListener('pageshow', event => event.persisted && void run());
void run();

/** Runs the checks of the connection, unless they are running. */
async function run() {
  if (selfTest && !selfTest.done) return;
  const test = new SelfTest(document.baseURI);
  selfTest = test;
  reportField.hidden = true;
  test.addEventListener('rows', refresh);
  refresh();
  await test.run();
}

/** Shows the rows and their summary. */
function refresh() {
  const rows = selfTest?.rows ?? [];
  const running = !selfTest?.done;
  list.show(rows);
  againButton.setAttribute('aria-disabled', String(running));
  copyButton.setAttribute('aria-disabled', String(running));
  const done = rows.filter(({state}) => state !== 'waiting' && state !== 'running').length;
  if (running) return status.show({tone: 'busy', title: texts.running({done, count: rows.length})});
  switch (overall([...rows, ...mediaRows()])) {
    case 'failed': return status.show({tone: 'bad', title: texts.failures, hint: texts.failuresHint});
    case 'warning': return status.show({tone: 'calm', title: texts.warnings, hint: texts.warningsHint});
    default: return status.show({tone: 'good', title: texts.allWell, hint: mediaRows().length < 2 ? texts.allWellHint : ''});
  }
}

/** Returns the rows of the camera and the microphone that have been tested. */
function mediaRows() {
  return [camera.row, microphone.row].filter(({state}) => state !== 'waiting' && state !== 'running');
}

/**
 * @param {CameraTest | MicrophoneTest} test
 * @param {HTMLButtonElement} button starts and stops the test
 * @param {HTMLElement} element shows its row
 * @param {string} startText
 * @param {string} stopText
 */
function bindMedia(test, button, element, startText, stopText) {
  const view = new CheckList(element);
  const show = () => {
    view.show([test.row]);
    button.textContent = test.on ? stopText : startText;
    refresh();
  };
  test.addEventListener('row', show);
  button.addEventListener('click', () => (test.on ? test.stop() : void test.start()));
  view.show([test.row]);
}

/** Copies the report, or selects it so that the user can copy it. */
async function copyReport() {
  if (!selfTest?.done) return;
  reportField.value = report([...selfTest.rows, camera.row, microphone.row], {userAgent: navigator.userAgent, time: new Date()});
  reportField.hidden = false;
  try {
    await navigator.clipboard.writeText(reportField.value);
    copyButton.textContent = texts.copied;
  } catch {
    reportField.select();
    copyButton.textContent = texts.copyManually;
  }
  setTimeout(() => (copyButton.textContent = texts.copy), 3_000);
}
