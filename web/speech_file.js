import { app } from "../../scripts/app.js";

// The page gives every node with a sound to choose an upload button, which needs a player before it; players it gives
// to its own nodes only.

const NODE = "LiveAvatarLoadSpeechFile";

app.registerExtension({
    name: "LiveAvatar.SpeechFile",
    beforeRegisterNodeDef(_, definition) {
        if (definition.name !== NODE) return;
        const { upload, ...inputs } = definition.input.required;
        definition.input.required = { ...inputs, audioUI: ["AUDIO_UI", {}], ...(upload && { upload }) };
    },
});
