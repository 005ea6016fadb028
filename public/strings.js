/**
 * All texts of the pages, by part. A value is a string, or a function of named
 * parameters. Elements of the HTML files name their text in data-text, data-label
 * (for aria-label) or data-placeholder.
 */

/** @typedef {{retry: string}} Retry what the user does next, as in “press start again” */

export const strings = {
  common: {
    pressForPicture: 'Press the picture to start it',
    pressForSound: 'Press the picture to turn the sound on',
  },
  home: {},
  pairing: {},
  share: {},
  call: {},
  devices: {
    camera: 'Camera',
    microphone: 'Microphone',
    numbered: (/** @type {{name: string, number: number}} */ {name, number}) => `${name} ${number}`,
    defaultCamera: 'Default camera',
    defaultMicrophone: 'Default microphone',
    noMicrophone: 'No microphone',
    thisScreen: 'This screen',
    pressStartAgain: 'press start again',
    cameraDenied: 'Access to the camera was denied',
    microphoneDenied: 'Access to the microphone was denied',
    deniedHint: (/** @type {Retry} */ {retry}) => `Allow camera and microphone for this page in the address bar, then ${retry}.`,
    cameraNotFound: 'No camera was found',
    microphoneNotFound: 'No microphone was found',
    notFoundHint: (/** @type {Retry} */ {retry}) => `Plug one in, or choose another in the list, then ${retry}.`,
    cameraInUse: 'The camera is in use by another program',
    microphoneInUse: 'The microphone is in use by another program',
    inUseHint: (/** @type {Retry} */ {retry}) => `Close the other program, then ${retry}.`,
    cameraGone: 'This camera is no longer available',
    microphoneGone: 'This microphone is no longer available',
    goneHint: (/** @type {Retry} */ {retry}) => `Choose another in the list, then ${retry}.`,
    cameraFailed: 'The camera did not start',
    microphoneFailed: 'The microphone did not start',
    cameraStopped: 'The camera has stopped',
    microphoneStopped: 'The microphone has stopped',
    failedHint: (/** @type {Retry} */ {retry}) => `Choose another in the list, or ${retry}.`,
    cameraMuted: 'The system has paused the camera',
    microphoneMuted: 'The system has paused the microphone',
    mutedHint: 'Another app uses it, or a switch of this device turns it off. It resumes automatically.',
    starting: 'Starting camera and microphone',
    startingHint: 'Some devices need a few seconds.',
    answerQuestion: 'Answer the browser’s question',
    answerQuestionHint: 'It asks whether this page can use camera and microphone. If you see no question, press the camera symbol in the address bar.',
    missing: 'This browser gives pages no camera',
    missingHint: (/** @type {{browser: string}} */ {browser}) => `Copy the link and open it in ${browser}.`,
    browserOfApple: 'Safari',
    browserOfAndroid: 'Chrome or Firefox',
    browserOfOthers: 'a current Firefox, Chrome, Edge or Safari',
  },
  send: {},
  receive: {},
  status: {},
  reason: {},
  test: {},
};
