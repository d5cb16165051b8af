import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { findNode } from "./graph.js";

// While a stream is generated, the node that consumes it shows the newest frame of each block. The page goes on to
// prefer such a preview over the node's result, so it is taken away when the result arrives.

const CONSUMER = "LiveAvatarStreamToVideo";
const LAZY_FRAMES = "LiveAvatarStreamToFrames"; // makes its frames while the node behind it runs
const PREVIEW_WIDGET = "$$canvas-image-preview";

function consumesStream(node) {
    const sources = node.inputs?.map((_, slot) => node.getInputNode(slot)?.type) ?? [];
    return node.type === CONSUMER || sources.includes(LAZY_FRAMES);
}

function dropPreview(node) {
    for (const key of Object.keys(app.nodePreviewImages))
        if (key === String(node.id) || key.endsWith(`:${node.id}`)) delete app.nodePreviewImages[key];
    const widget = node.widgets?.find(({ name }) => name === PREVIEW_WIDGET);
    if (widget) {
        widget.onRemove?.();
        node.widgets.splice(node.widgets.indexOf(widget), 1);
    }
    node.preview = node.imgs = undefined;
    node.setDirtyCanvas(true);
}

app.registerExtension({
    name: "LiveAvatar.StreamPreview",
    setup() {
        api.addEventListener("executed", ({ detail }) => {
            const node = findNode(detail.display_node ?? detail.node);
            if (node && consumesStream(node)) dropPreview(node);
        });
    },
});
