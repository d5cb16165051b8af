import { app } from "../../scripts/app.js";

// LiveAvatar Load Speech File has the page's upload button, which needs the page's audio player on the same node.

const NODE = "LiveAvatarLoadSpeechFile";

app.registerExtension({
    name: "LiveAvatar.LoadSpeechFile",
    beforeRegisterNodeDef(_type, { name, input }) {
        if (name !== NODE) return;
        const { audio, ...others } = input.required;
        input.required = { audio, audioUI: ["AUDIO_UI", {}], ...others }; // in the order in which widgets are made
    },
});
