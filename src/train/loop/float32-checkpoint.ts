export { float32Checkpoint } from "../../model/formats/float32-checkpoint.js";
